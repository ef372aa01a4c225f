"""``agrl compare`` with models: whose configuration counts, and that nothing is judged on examples that differ."""

import io

import pytest
from rich.console import Console

from agrl.config.compose import load_config, to_yaml
from agrl.data.predictions import write_predictions
from agrl.driver.evaluation.compare_models import compare_judges
from agrl.driver.evaluation.evaluate_model import Judge, evaluation_config
from agrl.errors import DataError
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Judgement
from tests.unit.relevance.strategies import make_example

CONSOLE = Console(file=io.StringIO(), width=120)


def answers(*tiers):
    return {"wild": [Prediction(make_example(4, id=str(i)), "", Judgement(t, {})) for i, t in enumerate(tiers)]}


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has a model."""
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    config = load_config(["experiment=agrl_tiny", "task.max_response_tokens=77"])
    (folder / "config.yaml").write_text(to_yaml(config))
    return folder


@pytest.fixture
def models(monkeypatch):
    """Models that know the wild set and answer 4 to everything; the paths of those that were loaded and that judged."""
    seen = {"loaded": [], "judged": []}

    class Fake:
        def __init__(self, config):
            self.path = config.model.path
            self.sets = {"wild": [p.example for p in answers(4, 4)["wild"]]}
            seen["loaded"].append(config)

        def predictions(self, console):
            seen["judged"].append(self.path)
            return answers(4, 4)

    monkeypatch.setattr(Judge, "load", Fake)
    return seen


def test_a_plain_model_borrows_the_configuration_of_a_run(run, tmp_path):
    own = evaluation_config(run, ["data.max_evaluation=9"])
    plain = evaluation_config(tmp_path / "plain", ["data.max_evaluation=9"], like=run)
    assert own.model.path == str(run / "model") and plain.model.path == str(tmp_path / "plain")
    assert (plain.data, plain.task) == (own.data, own.task) and plain.task.max_response_tokens == 77


def test_a_run_keeps_its_own_configuration(run, tmp_path):
    assert evaluation_config(run, [], like=tmp_path / "other").task.max_response_tokens == 77


def test_a_model_is_compared_with_a_file(run, models, tmp_path):
    file = write_predictions(tmp_path / "a.jsonl", answers(1, 4))
    found = compare_judges(file, run, [], CONSOLE)
    assert (found["sets"]["wild"]["good"], found["sets"]["wild"]["same"]) == (1, 1)
    assert models["judged"] == [str(run / "model")]


def test_two_models_are_compared_under_one_configuration(run, models, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    found = compare_judges(plain, run, ["task.max_response_tokens=33"], CONSOLE)
    assert [config.task.max_response_tokens for config in models["loaded"]] == [33, 33]
    assert models["judged"] == [str(plain), str(run / "model")] and found["sets"]["wild"]["same"] == 2


def test_examples_that_differ_are_noticed_before_anything_is_judged(run, models, tmp_path):
    file = write_predictions(tmp_path / "a.jsonl", answers(1, 4, 2))
    with pytest.raises(DataError, match="1 example only in B"):
        compare_judges(run, file, [], CONSOLE)
    assert models["judged"] == []
