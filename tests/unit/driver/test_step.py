"""A training step with stand-ins for engines and learner: dynamic sampling, and the KL in the reward."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from agrl.config.compose import load_config
from agrl.data.pool import Pool
from agrl.driver import step as module
from agrl.driver.step import prompts_wanted, training_step
from agrl.relevance.records import Component, Example, Product, Rollout, Score, ScoredGroup
from replay.core import ReplayCore
from replay.decisions import Decision

POOL = 40
KEEP, GUIDE, DROP = Decision("keep", "signal"), Decision("guide", "low_accuracy", 1), Decision("drop", "zero_variance")


class FakeLearner:
    config, version = SimpleNamespace(model=SimpleNamespace(path="m")), 0

    def __init__(self):
        self.trained, self.asked = [], []

    def kl_to_reference(self, sequences):
        self.asked.append(sequences)
        return np.array([float(len(s.response_ids)) for s in sequences])

    def train_policy(self, sequences, lr):
        self.trained.append(sequences)
        return {"loss/total": 0.0}

    def keep(self):
        pass


def services(learns, *overrides):
    """``learns``: example id -> whether the policy answers it sometimes rightly and sometimes not."""
    base = ["experiment=agrl_tiny", "trainer.prompts_per_step=4", "trainer.rollouts_per_prompt=4"]
    config = load_config([*base, "guidance.enabled=false", "learner.kl_coef=0", *overrides])
    pool = [Example(f"p{i}", "q", Product("t"), 4) for i in range(POOL)]
    replay = ReplayCore(Pool.of(pool), config.replay, config.guidance, 4, seed=0)
    result = lambda value: SimpleNamespace(result=lambda: value)  # noqa: E731
    return SimpleNamespace(
        config=config,
        learns=learns,
        replay=SimpleNamespace(call=lambda name, *args: result(getattr(replay, name)(*args))),
        scorer=SimpleNamespace(weights={"tier": 1.0}, names=("tier",)),
        learner=FakeLearner(),
        rollouts=SimpleNamespace(broadcast=lambda *_: None, metrics=dict, version=0),
        rewards=SimpleNamespace(metrics=dict),
        encoder=SimpleNamespace(fits=lambda *_: True),
        hinted=False,
        learners_turn=nullcontext,
    )


def fake_generate(s, prompts, n, step, temperature):
    return [(example, n) for example, _ in prompts]


def fake_collect(s, unscored):
    """Rollout i of a prompt has i + 1 tokens; the first half is right where the prompt can be learned from."""
    groups = []
    for example, n in unscored:
        values = [float(i < n / 2 or not s.learns(example.id)) for i in range(n)]
        scores = [Score(v, True, {"tier": Component(v)}, v == 1, True, False, None) for v in values]
        ids = [np.zeros(i + 1, np.int32) for i in range(n)]
        rollouts = [Rollout(example.id, ids[0], x, np.zeros(len(x), np.float32), "", version=0) for x in ids]
        groups.append(ScoredGroup(example, rollouts, scores))
    return groups


@pytest.fixture(autouse=True)
def _rollouts(monkeypatch):
    monkeypatch.setattr(module, "generate", fake_generate)
    monkeypatch.setattr(module, "collect", fake_collect)


def test_without_a_budget_dropped_groups_are_not_replaced():
    result = training_step(services(lambda i: False), step=0)
    assert result.metrics["rollout/generated_groups"] == 4 == result.metrics["decisions/drop"]
    assert result.groups == []


def test_the_phases_and_what_is_left_make_up_the_step():
    metrics = training_step(services(lambda i: True), step=0).metrics
    phases = {name for name in metrics if name.startswith("time/")} - {"time/step"}
    named = {"sample", "rollout", "score", "guide", "learn", "broadcast", "overhead"}
    assert phases == {f"time/{name}" for name in named}
    assert sum(metrics[name] for name in phases) == pytest.approx(metrics["time/step"])
    assert metrics["time/overhead"] > 0


def test_dropped_groups_are_replaced_until_the_step_is_full():
    s = services(lambda i: int(i[1:]) % 2 == 0, "trainer.generation_budget=8")
    result = training_step(s, step=0)
    tried = result.metrics["rollout/generated_groups"]
    assert len(result.groups) == 4 == result.metrics["decisions/keep"] and 4 < tried <= 32
    assert result.metrics["decisions/drop"] == tried - 4
    assert len({g.example.id for g in result.groups}) == 4
    assert len(s.learner.trained[0]) == 16


def test_the_budget_ends_the_search():
    result = training_step(services(lambda i: False, "trainer.generation_budget=2.5"), step=0)
    assert result.metrics["rollout/generated_groups"] == 10 and result.groups == []


@pytest.mark.parametrize(
    ("decisions", "wanted"),
    [
        ([], 4),
        ([KEEP] * 4, 0),
        ([KEEP, GUIDE, DROP, DROP], 2),
        ([DROP] * 5, 1),
        ([DROP] * 6, 0),
        ([KEEP, KEEP, KEEP, DROP, DROP, GUIDE], 0),
    ],
)
def test_groups_to_be_guided_count_as_having_signal(decisions, wanted):
    config = services(bool, "trainer.generation_budget=1.5").config
    assert prompts_wanted(config, decisions) == wanted


def test_the_kl_in_the_reward_is_taken_off_before_the_advantages():
    s = services(lambda i: True, "learner.advantage=dr_grpo", "learner.kl_in=reward", "learner.kl_coef=0.1")
    result = training_step(s, step=0)
    rewards = np.array([1.0, 1.0, 0.0, 0.0]) - 0.1 * np.array([1.0, 2.0, 3.0, 4.0])
    for advantages in result.advantages:
        np.testing.assert_allclose(advantages, rewards - rewards.mean())
    assert result.metrics["policy/reference_kl"] == 2.5
    assert [len(asked) for asked in s.learner.asked] == [16]


@pytest.mark.parametrize("off", [["learner.kl_in=reward"], ["learner.kl_coef=0.1"]])
def test_no_reference_pass_unless_the_kl_is_in_the_reward(off):
    s = services(lambda i: True, *off)
    assert "policy/reference_kl" not in training_step(s, step=0).metrics and s.learner.asked == []


def test_every_prompt_of_a_step_is_in_its_ledger_once():
    s = services(lambda i: int(i[1:]) % 2 == 0, "trainer.generation_budget=8")
    result = training_step(s, step=0)
    assert [row["draw"] for row in result.ledger] == list(range(int(result.metrics["rollout/generated_groups"])))
    trained = {row["example_id"] for row in result.ledger if row["outcome"] == "trained"}
    assert trained == {group.example.id for group in result.groups} and len(trained) == result.metrics["ledger/trained"]
    assert {(row["outcome"], row["reason"]) for row in result.ledger} == {("trained", ""), ("dropped", "zero_variance")}
    assert result.metrics["ledger/draws"] == len(result.ledger)
