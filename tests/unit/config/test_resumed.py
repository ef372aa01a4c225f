"""Groups and keys on a run that exists: they change what it was started with, as they do for a new run."""

from pathlib import Path

import pytest

from agrl.config.compose import load_config, resumed_config, to_yaml
from agrl.config.keys import choices, groups
from agrl.driver.evaluation.evaluate_model import evaluation_config
from agrl.errors import ConfigError

STARTED = [
    "experiment=agrl_tiny",
    "ray=cluster",
    "loss=rloo",
    "model.path=models/mine",
    "learner.lr=7e-5",
    "trainer.steps=7",
    "learner.ranks=1",
    "rollout.actors=1",
]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(load_config([*STARTED, f"run={folder}"])))
    return folder


def picked(config, keys):
    found = config
    for name in keys.split("."):
        found = getattr(found, name)
    return getattr(found, "value", found)


@pytest.mark.parametrize(
    ("words", "then"),
    [
        (["ray=inline"], {"ray.mode": "inline", "ray.address": None, "learner.lr": 7e-5, "trainer.steps": 7}),
        (["+ray=local"], {"ray.mode": "local", "ray.address": None}),
        (["ray=cluster", "ray.address=head:6379"], {"ray.address": "head:6379"}),
        (["loss=gspo"], {"learner.ratio": "sequence", "learner.kl_in": "loss", "learner.kl_estimator": "k3"}),
        (["learner.clip_high=0.5", "loss=gspo"], {"learner.clip_high": 0.5, "learner.ratio": "sequence"}),
        (["loss=gspo", "learner.clip_high=0.5"], {"learner.clip_high": 0.5, "learner.ratio": "sequence"}),
        (["algorithm=grpo"], {"reward.mode": "sparse", "guidance.enabled": False, "model.path": "models/mine"}),
        (["size=tiny"], {"trainer.steps": 50, "learner.lr": 3e-4, "model.path": "models/mine"}),
        (["size=null", "~loss"], {"trainer.steps": 7, "learner.advantage": "rloo"}),
        (["algorithm=grpo_rrs", "ray=inline", "loss=dapo"], {"ray.mode": "inline", "learner.clip_high": 0.28}),
    ],
)
def test_groups_change_what_a_run_was_started_with(run, words, then):
    config = resumed_config(run, words)
    assert {key: picked(config, key) for key in then} == then
    assert config.run == str(run)


@pytest.mark.parametrize("group", [name for name in groups() if name != "experiment"])
def test_every_choice_of_every_group_can_be_made_and_means_what_it_does_for_a_new_run(run, group):
    assert choices(group)
    for name in choices(group):
        word = f"{group}={name}"
        again = resumed_config(run, [word])
        new = load_config([*(w for w in STARTED if not w.startswith(f"{group}=")), f"run={run}", word])
        if group == "ray":  # what a CPU more or less changes was settled when the run was started
            assert again.ray == new.ray
        elif group not in ("size", "cluster"):  # they set keys of which the explicit ones of the start win
            assert again == new


@pytest.mark.parametrize(
    ("words", "sets"),
    [
        (["~data.evaluation.wild"], {"balanced"}),
        (["+data.evaluation.mine=20261126_1200"], {"balanced", "wild", "mine"}),
        (["data.evaluation.mine=x"], {"balanced", "wild", "mine"}),
        (["++data.evaluation.wild=x"], {"balanced", "wild"}),
        (["data.evaluation={mine: x}"], {"mine"}),
        (["data.evaluation={mine: x}", "data.evaluation.yours=y"], {"mine", "yours"}),
        (["~data.evaluation", "+data.evaluation.größe=x"], {"größe"}),
    ],
)
def test_sets_are_added_replaced_and_taken_out_as_for_a_new_run(run, words, sets):
    assert resumed_config(run, words).data.evaluation.keys() == sets
    assert load_config([*STARTED, *words]).data.evaluation.keys() == sets


@pytest.mark.parametrize(
    ("word", "named", "advice"),
    [
        ("ray=nowhere", "ray=nowhere", "cluster, inline, local"),
        ("experiment=agrl_esci_tiny", "experiment=agrl_esci_tiny", "every key"),
        ("run=elsewhere", "run=elsewhere: a run keeps its folder", "leave it out"),
        ("trainer.stepz=1", "trainer.stepz", "trainer.steps"),
        ("ray={mode: inline}", "ray={mode: inline}", "ray=NAME"),
    ],
)
def test_what_cannot_be_changed_is_refused_by_name(run, word, named, advice):
    with pytest.raises(ConfigError) as refused:
        resumed_config(run, [word])
    assert named in str(refused.value) and advice in refused.value.hint


def test_groups_can_be_chosen_for_an_evaluation(run, tmp_path):
    words = ["ray=inline", "~data.evaluation.wild"]
    own, plain = evaluation_config(run, words), evaluation_config(tmp_path / "plain", words, like=run)
    assert own.ray == plain.ray == load_config(["model.path=m", "ray=inline"]).ray
    assert own.data.evaluation.keys() == plain.data.evaluation.keys() == {"balanced"}


def test_an_evaluation_refuses_another_model(run):
    with pytest.raises(ConfigError, match=r"model\.path=other"):
        evaluation_config(run, ["model.path=other"])


@pytest.mark.parametrize("name", ["20261126_1200", "a [v2], {x}", "größe"])
def test_a_plain_model_of_any_name_is_evaluated(name):
    assert evaluation_config(Path(name), ["experiment=agrl_tiny"]).model.path == name
