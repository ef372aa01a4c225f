"""The grid of `agrl reproduce`: each run after the one that it goes on from, the same seeds for every method."""

from io import StringIO
from pathlib import Path

import pytest

from agrl.config.compose import load_config
from agrl.data.files import read_examples, write_examples
from agrl.driver.experiments import reproduce
from agrl.driver.experiments.demo import _configs
from agrl.driver.experiments.grid import METHODS, Cell, Grid, Kind
from agrl.driver.experiments.labels import split_labels
from agrl.driver.experiments.reproduce import prepare_data
from agrl.errors import ConfigError
from agrl.report.plain import PlainConsole
from tests.unit.relevance.strategies import make_example

OUT = Path("out")
FILES = {name: f"{name}.parquet" for name in ("seed", "train", "train_teacher", "train_true")}


def test_every_run_stands_after_the_one_that_it_goes_on_from():
    cells = list(Grid().cells())
    assert len(cells) == len(set(cells)) == 2 + 2 + 5 * 10 + 2 * 10
    for i, cell in enumerate(cells):
        assert cell.before is None or cell.before in cells[:i]


def test_a_method_brings_its_start_along():
    cells = list(Grid(methods=("agrl",), starts=1, seeds=2).cells())
    assert cells == [Cell("sft", 0, 0), Cell("agrl", 0, 0), Cell("agrl", 0, 1)]


def test_seeds_are_the_same_for_every_method_and_differ_between_starts():
    grid = Grid(first_seed=7)
    seeds = {(c.start, c.seed): set() for c in grid.cells() if METHODS[c.method].kind == Kind.reinforced}
    for cell in grid.cells():
        if METHODS[cell.method].kind == Kind.reinforced:
            seeds[cell.start, cell.seed].add(grid.seed_of(cell))
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_baselines_have_one_run_and_an_experiment_a_model_that_all_starts_begin_with():
    cells = list(Grid(methods=("majority", "sft"), starts=2).cells())
    assert cells == [Cell("majority", 0, 0), Cell("sft", 0, 0), Cell("sft", 1, 0)]
    words = Grid().overrides(Cell("sft", 1, 0), OUT, FILES | {"model": "pretrained"})
    assert "model.path=pretrained" in words
    assert f"model.path={OUT}/runs/sft/start-1/seed-0/model" in Grid().overrides(
        Cell("agrl", 1, 3), OUT, FILES | {"model": "pretrained"}
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_valid_configuration(method):
    cell = Cell(method, 1, 0)
    words = ["experiment=agrl_tiny", *Grid().overrides(cell, OUT, FILES)]
    config = load_config(words)
    assert config.run == f"out/runs/{method}/start-1/seed-0"
    origin = METHODS[method].origin
    assert config.model.path == (f"out/runs/{origin}/start-1/seed-0/model" if origin else "out/models/start-1")


def test_what_the_methods_differ_in():
    configs = {m: load_config(["experiment=agrl_tiny", *Grid().overrides(Cell(m, 0, 0), OUT, FILES)]) for m in METHODS}
    assert {m: (c.reward.mode.value, c.guidance.enabled) for m, c in configs.items() if "grp" in m or "agrl" in m} == {
        "grpo": ("sparse", False),
        "grpo_rrs": ("rules", False),
        "grpo_agr": ("sparse", True),
        "agrl": ("rules", True),
        "agrl_no_hints": ("rules", True),
    }
    assert configs["sft_tier_only"].task.order.value == "tier_only"
    assert configs["sft_verdicts"].task.order.value == "verdicts_only"
    assert [configs[f"ground{more}"].ground.hints for more in ("", "_unguided")] == [True, False]
    assert configs["ground_tier"].ground.gold.value == "tier" and configs["ground_again"].ground.rounds == 2
    assert configs["sft_true_reasoning"].data.seed == "train_true.parquet"
    assert not configs["sft_no_hints"].sft.hints and configs["sft"].sft.hints


def test_every_method_but_the_starts_is_there_with_each_number_of_labels():
    cells = list(Grid(methods=("sft", "sft_verdicts", "tfidf_logistic"), starts=1, seeds=1, labels=(10, 20)).cells())
    assert [cell.method for cell in cells] == [
        *("tfidf_logistic@10", "tfidf_logistic@20", "sft"),
        *("sft_verdicts@10", "sft_verdicts@20"),
    ]
    assert cells[-1].before == Cell("sft", 0, 0)
    with pytest.raises(ConfigError, match="--labels 0"):
        Grid(labels=(0,))


def test_a_method_with_some_labels_sees_only_these():
    files = FILES | {"train@10": "ten.parquet", "unlabelled@10": "others.parquet", "train@20": "twenty.parquet"}
    words = lambda name: ["experiment=agrl_tiny", *Grid().overrides(Cell(name, 0, 0), OUT, files)]  # noqa: E731
    some, more, whole = (load_config(words(name)).data for name in ("ground@10", "sft_verdicts@20", "sft_verdicts"))
    assert (some.train, some.unlabelled) == ("ten.parquet", "others.parquet")
    assert more.train == more.seed == "twenty.parquet" and more.unlabelled is None
    assert whole.seed == "train.parquet" and whole.unlabelled is None
    assert "train_true" not in Grid.files_of(Cell("sft_true_reasoning@10", 0, 0), files)


def test_rows_are_drawn_for_labels_and_the_others_lose_theirs(tmp_path):
    pool = [make_example(tier, {"category": "same"}, id=f"e{i}") for i, tier in enumerate([4, 3, 2, 1] * 5)]
    train = write_examples(tmp_path / "train.parquet", pool)
    few, many = (split_labels(tmp_path / "data", str(train), count, seed=1) for count in (5, 12))
    few, rest = (read_examples(path, labelled=False) for path in few.values())
    many = read_examples(many["train@12"])
    assert [len(rows) for rows in (few, rest, many)] == [5, 15, 12]
    assert {e.id for e in few} < {e.id for e in many} and {e.id for e in few + rest} == {e.id for e in pool}
    assert all(e in pool for e in few) and {(e.tier, len(e.verdicts)) for e in rest} == {(None, 0)}
    assert split_labels(tmp_path / "data", str(train), 20, seed=1).keys() == {"train@20"}, "none is left without"
    with pytest.raises(ConfigError, match="has 20 rows"):
        split_labels(tmp_path / "data", str(train), 21, seed=1)


ANYWHERE = ["20261126_1200", "runs/a [v2], {x}", "it's ${y} = größe", "1e5"]


@pytest.mark.parametrize("out", map(Path, ANYWHERE))
@pytest.mark.parametrize("method", ["agrl", "sft_true_reasoning"])
def test_a_grid_may_lie_in_any_folder(out, method, monkeypatch):
    monkeypatch.setattr(reproduce, "make_catalogue", lambda folder, spec, controls: None)
    common, files = prepare_data(out, Grid(), [], PlainConsole(StringIO()))
    config = load_config([*common, *Grid().overrides(Cell(method, 0, 1), out, files)])
    assert config.run == f"{out}/runs/{method}/start-0/seed-1"
    assert config.model.path == f"{out}/runs/sft/start-0/seed-0/model"
    assert config.data.seed == f"{out}/data/{'train_true' if method == 'sft_true_reasoning' else 'seed'}.parquet"
    assert config.data.evaluation == {name: f"{out}/data/{name}.parquet" for name in ("balanced", "wild")}


@pytest.mark.parametrize("out", map(Path, ANYWHERE))
def test_a_demo_may_lie_in_any_folder(out):
    rl, sft = _configs(out, 3, ["trainer.steps=2"])
    assert (rl.run, rl.model.path, sft.run, sft.model.path) == tuple(
        f"{out}{inner}" for inner in ("", "/sft/model", "/sft", "/start")
    )
    assert rl.data == sft.data and rl.data.train == f"{out}/data/train.parquet"
    assert rl.data.evaluation == {name: f"{out}/data/{name}.parquet" for name in ("balanced", "wild")}


@pytest.mark.parametrize("change", [{"methods": ("ppo",)}, {"starts": 0}, {"seeds": 0}])
def test_an_impossible_grid_is_refused_by_name(change):
    with pytest.raises(ConfigError, match=str(next(iter(change)))[:5] if "methods" not in change else "ppo"):
        Grid(**change)
