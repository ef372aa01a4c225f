"""Generation and training each as they are ready (trainer.overlap=free), on the real stack."""

import json
import pickle
import shutil

import pytest

from actors.rollout_pool import RolloutPool
from agrl.config.compose import resumed_config
from agrl.driver.run.ledger_check import check_ledger
from agrl.driver.training import train
from agrl.report.recorder import read_jsonl
from tests.e2e.runs import agrl, stop_in_a_step
from tests.e2e.small_world import config, make_world, overrides, silent

STEPS, STALENESS = 6, 2
FREE = (
    *("trainer.overlap=free", f"trainer.max_staleness={STALENESS}", f"trainer.steps={STEPS}", "rollout.actors=2"),
    *("trainer.checkpoint_every=2", "trainer.keep_checkpoints=9", "trainer.evaluate_every=2", "data.max_evaluation=4"),
    *("guidance.source=reference", "guidance.tau=1.0", "learner.lr=1e-3"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """Broadcasts of which one kills an engine just before."""
    folder, killed = tmp_path_factory.mktemp("runs") / "free", []
    broadcast = RolloutPool.broadcast

    def harmful(pool, version, weights):
        if version == 3 and not killed:
            killed.append(pool._pool.services[1])
            killed[0].kill()
        broadcast(pool, version, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RolloutPool, "broadcast", harmful)
        train(config(world, folder, *FREE), silent())
    assert killed
    return folder


def rows(run):
    return list(read_jsonl(run / "metrics.jsonl"))


def test_no_token_is_older_than_allowed(run):
    found = rows(run)
    assert [row["sync/version"] for row in found] == list(range(1, STEPS + 1))
    for row in found:
        shares = [row[f"staleness/share_{lag}"] for lag in range(STALENESS + 1)]
        assert sum(shares) == pytest.approx(1) and row["staleness/dropped"] == 0
        assert row["rollout/generated_groups"] == row["ledger/trained"] + row["decisions/drop"]
    assert found[0]["staleness/versions"] == 0 and found[0]["sync/gap_mean"] < 1e-5
    assert max(row["staleness/versions"] for row in found) > 0
    assert all(row["staleness/spans"] >= 1 for row in found)
    for row in found:
        phases = sum(value for name, value in row.items() if name.startswith("time/") and name != "time/step")
        assert phases == pytest.approx(row["time/step"]) and "time/wait" in row and "ahead/step" in row


def test_an_engine_killed_in_front_of_a_broadcast_is_replaced(run):
    assert rows(run)[-1]["actors/rollout_restarts"] == 1


def test_evaluations_are_of_a_named_version(run):
    for step in (2, 4):
        for file in (run / "evaluation").glob(f"step-{step:06d}-*.json"):
            assert json.loads(file.read_text())["version"] == step
    assert len(list((run / "evaluation").glob("step-*.json"))) == 4


def test_nothing_is_lost_and_nothing_trained_twice(run):
    found = check_ledger(run)
    assert found.problems == [] and found.outcomes["trained"] == sum(row["ledger/trained"] for row in rows(run))


def test_a_checkpoint_holds_what_was_ahead_and_a_resumed_run_does_not_draw_it_again(run, tmp_path):
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    shutil.rmtree(cut / "model")
    for step in (4, 6):
        shutil.rmtree(cut / "checkpoints" / f"step-{step:06d}")
    about = json.loads((cut / "run.json").read_text())
    (cut / "run.json").write_text(json.dumps({k: v for k, v in about.items() if k != "finished"}))
    ahead = pickle.loads((cut / "checkpoints" / "step-000002" / "ahead.pickle").read_bytes())
    held = [example.id for example, _ in ahead.running]
    held += [group.example.id for batch in ahead.ready for group in batch.groups]
    for filling in (*ahead.full, ahead.filling):
        decided = zip(filling.sampled, filling.decisions, strict=True)
        held += [group.example.id for group, decision in decided if decision.kind != "drop"]
    assert check_ledger(cut).under_way == len(held) > 0
    train(resumed_config(cut, [f"run={cut}"]), silent(), resume=True)
    found = check_ledger(cut)
    assert found.problems == [] and found.steps == STEPS
    after = [row["example_id"] for row in read_jsonl(cut / "ledger.jsonl") if row["step"] >= 2]
    assert set(held) <= set(after)


def test_sigterm_writes_what_is_ahead_and_a_resumed_run_loses_none_of_it(world, tmp_path):
    stopped = tmp_path / "stopped"
    stop_in_a_step(stopped, overrides(world, stopped, *FREE, "trainer.evaluate_every=0"), after=2)
    assert check_ledger(stopped).under_way > 0
    agrl("train", "--resume", stopped, "rollout.actors=1")
    found = check_ledger(stopped)
    assert found.problems == [] and found.steps == STEPS
