"""A miniature of `agrl reproduce`: several methods on services that stay up, stopped and gone on with, on two lanes."""

import json
from dataclasses import replace

import pytest

from agrl.data.files import read_examples
from agrl.driver.experiments import reproduce as module
from agrl.driver.experiments.grid import METHODS, Grid
from agrl.driver.experiments.reproduce import reproduce
from agrl.errors import ConfigError, DivergenceError
from agrl.models.build import load_model
from agrl.relevance.grounding import is_sound
from agrl.relevance.rulebook import load_rulebook
from agrl.report.grid_page import write_results
from tests.e2e.small_world import make_world, overrides, silent

LABELS = 48  # of 60 pairs
GRID = Grid(
    methods=("majority", "grpo", "agrl", "dpo", "sft_tier_only", "ground_again"), starts=1, seeds=1, labels=(LABELS,)
)
DPO = (
    "dpo.prompts=24",
    "dpo.samples=4",
    "dpo.steps=2",
    "dpo.batch_size=2",
    "dpo.min_margin=0.01",
    "dpo.lr=1e-4",
    "dpo.sft_coef=0",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", autouse=True)
def short():
    """Supervised methods go on from the start for 500 steps: fewer will do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sft_tier_only", "ground_again"):
            method = METHODS[name]
            patch.setitem(METHODS, name, replace(method, overrides=(*method.overrides, "sft.steps=40")))
        yield


def settings(world):
    return overrides(world, world / "unused", *DPO, "sft.steps=120", "trainer.steps=2", "sync.transport=collective")


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_grid_goes_on_after_a_failure_and_used_services_give_the_same_run(world, tmp_path, monkeypatch):
    runs, run_cell = tmp_path / "runs", module.run_cell
    named = {method: f"{method}@{LABELS}" for method in GRID.methods} | {"sft": "sft"}
    folders = {method: runs / name / "start-0" / "seed-0" for method, name in named.items()}

    def failing(services, sets, cell, *rest):
        seconds = run_cell(services, sets, cell, *rest)
        if cell.method == named["agrl"]:
            folders["agrl"].rename(tmp_path / "on-used-services")
            raise DivergenceError("the loss is not finite")
        return seconds

    monkeypatch.setattr(module, "run_cell", failing)
    with pytest.raises(DivergenceError) as ended:
        reproduce(tmp_path, GRID, settings(world), silent(), lanes=1)
    assert f"the run agrl@{LABELS}, start 0, seed 0" in ended.value.hint
    monkeypatch.undo()
    finished = (folders["grpo"] / "cell.json").stat().st_mtime_ns
    reproduce(tmp_path, GRID, settings(world), silent(), lanes=2)
    assert (folders["grpo"] / "cell.json").stat().st_mtime_ns == finished, "finished runs are kept"

    for method, folder in folders.items():
        assert json.loads((folder / "cell.json").read_text())["method"] == named[method]
        found = json.loads((folder / "evaluation" / "after-balanced.json").read_text())
        assert found["n"] == 16 and (found["rule_adherence"] is None) == (method in ("majority", "sft_tier_only"))
        assert method == "majority" or load_model(str(folder / "model"), "float32").num_parameters() > 0
        assert not (folder / "checkpoints").exists()

    # the run that came after two others, alone, is the same as the one on services just started, beside another lane
    used, fresh = rows(tmp_path / "on-used-services"), rows(folders["agrl"])
    assert len(used) == len(fresh) == 2
    for a, b in zip(used, fresh, strict=True):
        for name in ("train/accuracy", "reward/total_mean", "loss/total", "grad_norm", "response/length_mean"):
            assert a.get(name) == pytest.approx(b.get(name), rel=1e-3, abs=1e-4), name

    preferred = rows(folders["dpo"])
    assert [row["phase"] for row in preferred] == ["dpo", "dpo"]
    assert preferred[0]["loss/total"] == pytest.approx(0.6931, abs=1e-3), "before any update nothing is preferred"
    assert preferred[1]["loss/total"] != preferred[0]["loss/total"]

    first, second = json.loads((folders["ground_again"] / "summary.json").read_text())["ground"]
    assert first["asked"] == LABELS and first["kept"] == first["labelled"] <= LABELS
    assert second["asked"] == 60, "pairs without labels are read in the second round"
    references = read_examples(folders["ground_again"] / "references-2.parquet", labelled=False)
    assert len(references) == second["kept"] and sum(e.tier is not None for e in references) == second["labelled"]
    assert all(is_sound(load_rulebook("relevance"), e.reference) for e in references)
    assert {e.reference.tier - e.tier for e in references if e.tier} == {0}

    table = write_results(tmp_path, "agrl reproduce")
    assert table["cells"] == {named[method]: 1 for method in folders}
    assert table["methods"][named["agrl"]]["balanced"]["macro_f1"]["n"] == 1
    assert json.loads((tmp_path / "labels.json").read_text())["differences"].keys() > {"ground_again-sft_tier_only"}
    assert (tmp_path / "results.html").is_file() and (tmp_path / "results.md").is_file()


def test_another_grid_is_not_mixed_into_a_folder(world, tmp_path):
    (tmp_path / "grid.json").write_text(json.dumps({"first_seed": 1, "overrides": []}))
    with pytest.raises(ConfigError, match="holds the grid of"):
        reproduce(tmp_path, Grid(methods=("sft",), starts=1), settings(world), silent())
