"""A miniature of `agrl reproduce`: several methods on services that stay up, stopped and gone on with."""

import json

import pytest

from agrl.driver import reproduce as module
from agrl.driver.dpo import train_preferences
from agrl.driver.grid import Grid
from agrl.driver.reproduce import reproduce
from agrl.errors import ConfigError
from agrl.models.build import load_model
from tests.e2e.small_world import config, make_world, overrides, silent

SMALL = ("sft.steps=40", "trainer.steps=2", "dpo.prompts=24", "dpo.samples=4", "dpo.steps=2", "dpo.batch_size=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def settings(world):
    return overrides(world, world / "unused", *SMALL, "dpo.min_margin=0.01")


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_small_grid_runs_goes_on_after_a_failure_and_repeats_exactly(world, tmp_path, monkeypatch):
    grid = Grid(methods=("grpo", "agrl", "sft_tier_only"), starts=1, seeds=1)
    run_cell, seen = module.run_cell, []

    def failing(services, sets, cell, *rest):
        if cell.method == "agrl" and not seen:
            seen.append(cell)
            raise RuntimeError("the power went off")
        run_cell(services, sets, cell, *rest)

    monkeypatch.setattr(module, "run_cell", failing)
    with pytest.raises(RuntimeError, match="the power went off"):
        reproduce(tmp_path / "a", grid, settings(world), silent())
    runs = tmp_path / "a" / "runs"
    before = (runs / "grpo" / "start-0" / "seed-0" / "cell.json").stat().st_mtime_ns
    reproduce(tmp_path / "a", grid, settings(world), silent())
    assert (runs / "grpo" / "start-0" / "seed-0" / "cell.json").stat().st_mtime_ns == before, "finished runs are kept"
    for method in ("sft", "grpo", "agrl", "sft_tier_only"):
        folder = runs / method / "start-0" / "seed-0"
        assert json.loads((folder / "cell.json").read_text())["method"] == method
        found = json.loads((folder / "evaluation" / "after-balanced.json").read_text())
        assert found["n"] == 16 and (found["rule_adherence"] is None) == (method == "sft_tier_only")
        assert load_model(str(folder / "model"), "float32").num_parameters() > 0
        assert not (folder / "checkpoints").exists()

    # a run on services that another run has used is the same as one on fresh services
    monkeypatch.undo()
    reproduce(tmp_path / "b", Grid(methods=("agrl",), starts=1, seeds=1), settings(world), silent())
    ours, theirs = (tmp_path / name / "runs" / "agrl" / "start-0" / "seed-0" for name in "ba")
    for a, b in zip(rows(ours), rows(theirs), strict=True):
        for name in ("train/accuracy", "reward/total_mean", "loss/total", "grad_norm", "response/length_mean"):
            assert a.get(name) == pytest.approx(b.get(name), rel=1e-3, abs=1e-4), name


def test_another_grid_is_not_mixed_into_a_folder(world, tmp_path):
    (tmp_path / "grid.json").write_text(json.dumps({"first_seed": 1, "overrides": []}))
    with pytest.raises(ConfigError, match="holds the grid of"):
        reproduce(tmp_path, Grid(methods=("sft",), starts=1), settings(world), silent())


def test_preference_training_from_a_supervised_start(world, tmp_path):
    grid = Grid(methods=("sft",), starts=1)
    reproduce(tmp_path / "grid", grid, [*settings(world), "sft.steps=150"], silent())
    start = tmp_path / "grid" / "runs" / "sft" / "start-0" / "seed-0" / "model"
    run = train_preferences(
        config(world, tmp_path / "dpo", *SMALL, f"model.path={start}", "dpo.min_margin=0.01"), silent()
    )
    found = rows(run.path)
    assert [row["phase"] for row in found] == ["dpo", "dpo"]
    assert found[0]["loss/total"] == pytest.approx(0.6931, abs=1e-3), "before any update nothing is preferred"
    assert found[1]["dpo/reward_margin"] != 0
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["before"]["balanced"]["n"] == summary["after"]["balanced"]["n"] == 16
