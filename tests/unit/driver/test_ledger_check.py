"""A ledger that does not add up is told so, by draw and step."""

import json

import pytest

from agrl.config.schema import GuidanceConfig, ReplayConfig
from agrl.data.pool import Pool
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.run.ledger_check import check_ledger
from agrl.errors import ConfigError
from agrl.relevance.records import Example, Product
from replay.core import ReplayCore

STEPS, BATCH = 4, 3


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    """A run killed after step 4, whose last checkpoint is after step 3, with a batch of step 3 under way in it."""
    pool = [Example(f"p{i}", "q", Product("t"), 4) for i in range(40)]
    replay = ReplayCore(Pool.of(pool), ReplayConfig(), GuidanceConfig(enabled=False), 4, seed=0)
    batches, ledger, metrics = {0: replay.sample(BATCH, 0)}, [], []
    for step in range(STEPS):
        batches[step + 1] = replay.sample(BATCH, step + 1)
        names = [example.id for example in batches[step]]
        ledger += [{"phase": "rl", **row} for row in replay.settle(step, names[:2], names[2:])]
        metrics.append({"phase": "rl", "step": step, "ledger/trained": 2.0})
        if step == STEPS - 2:
            folder = RunFolder(tmp_path)
            partial = folder.begin_checkpoint(step + 1)
            replay.save(str(partial / "replay.npz"))
            folder.commit_checkpoint(partial, {"step": step + 1}, keep=1)
    write(tmp_path / "ledger.jsonl", ledger)
    write(tmp_path / "metrics.jsonl", metrics)
    return tmp_path


def test_a_sound_run(run):
    found = check_ledger(run)
    assert found.problems == [] and (found.steps, found.draws, found.under_way) == (STEPS, 4 * BATCH, BATCH)
    assert found.outcomes == {"trained": 8, "dropped (no_advantage)": 4}


def test_a_folder_without_a_ledger(tmp_path):
    with pytest.raises(ConfigError, match="has no ledger of a reinforcement learning run"):
        check_ledger(tmp_path)


def tampered(run, change):
    file = run / "ledger.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    write(file, change(rows))
    return check_ledger(run).problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows[:4] + rows[5:], "1 draws lost before the last checkpoint: 4"),
        (lambda rows: [*rows, rows[0]], "1 draws with two outcomes: 0"),
        (lambda rows: [rows[0] | {"outcome": "forgotten"}, *rows[1:]], "1 draws without a known outcome: 0"),
        (lambda rows: [*rows, rows[3] | {"draw": 99}], "1 trained twice in a step: p"),
        (lambda rows: [rows[2] | {"outcome": "trained"}, *rows], "1 steps that trained other prompts than the metrics"),
        (lambda rows: [*rows, rows[0] | {"step": 9}], "1 steps trained that the metrics do not have: 9"),
        (lambda rows: [rows[0] | {"draw": 77}, *rows[1:]], "1 draws that the last checkpoint has not made: 77"),
        (
            lambda rows: [*rows, rows[0] | {"draw": 9, "step": 2}],
            "1 draws both ended and under way in the last checkpoint: 9",
        ),
    ],
)
def test_what_does_not_add_up_is_named(run, change, problem):
    assert any(said.startswith(problem) for said in tampered(run, change)), tampered(run, lambda rows: rows)


def test_what_is_lost_and_what_is_there_twice_is_counted(run):
    sound = check_ledger(run)
    assert (sound.lost, sound.twice) == (0, 0)
    tampered(run, lambda rows: [*rows[:3], *rows[5:], rows[0]])
    found = check_ledger(run)
    assert (found.lost, found.twice) == (2, 1)


def test_metrics_of_a_missing_step(run):
    rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(rows[:1] + rows[2:]))
    assert any(
        said.startswith("2 steps missing in, or repeated by, the metrics: 1, 3") for said in check_ledger(run).problems
    )
