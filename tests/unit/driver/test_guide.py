"""Guidance: which answers enter a group, under which prompt they are trained, and what is told of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from actors.generation import Generation, Sampled
from agrl.config.compose import load_config
from agrl.driver.generation.guide import guide
from agrl.relevance.hints import reference_judgement
from agrl.relevance.records import Example, Order, Product, Provenance, Rollout, ScoredGroup
from agrl.relevance.response import render_response
from agrl.relevance.reward import Scorer
from agrl.relevance.rulebook import load_rulebook
from replay.decisions import Decision

BOOK = load_rulebook("relevance")
GOLD = {"category": "unrelated", "attributes": "met"}
EXAMPLE = Example("e1", "grinder", Product("a red kettle"), tier=1, verdicts=GOLD)
WRONG = "Query: grinder\nProduct: kettle\nCategory: same\nAttributes: met\nTier: 4"
RIGHT = "Query: grinder\nProduct: kettle\nCategory: unrelated\nAttributes: met\nTier: 1"


class FakeEncoder:
    """A prompt is its hint level; a response its length in words."""

    def prompt(self, example, hint_level=0):
        return np.array([hint_level], np.int32)

    def response(self, judgement):
        text = render_response(BOOK, judgement, Order.think_then_respond)
        return text, np.arange(len(text.split()), dtype=np.int32)


class FakeRollouts:
    """Answers rightly from hint level ``solved_at`` on."""

    def __init__(self, solved_at: int) -> None:
        self.solved_at, self.asked = solved_at, []

    def generate(self, requests, sampling):
        for request in requests:
            level = int(request.prompt_ids[0])
            self.asked.append(level)
            text = RIGHT if level >= self.solved_at else WRONG
            sample = Sampled(np.array([7, 8], np.int32), np.array([-0.5, -0.1], np.float32), "stop", text)
            yield Generation(request.request_id, [sample] * request.n, version=3), 0


class FakeRewards:
    def __init__(self, scorer) -> None:
        self.score = lambda items: [scorer.score(*item) for item in items]
        self.submit, self.collect = self.score, lambda scores: scores


class FakeReplay:
    """Remembers what it is given for prompt e1."""

    def __init__(self, stored) -> None:
        self.stored = stored

    def call(self, method, wanted):
        assert method == "recall"
        return SimpleNamespace(result=lambda: {"e1": self.stored[: wanted["e1"]]})


def services(solved_at=2, stored=(), **guidance):
    config = load_config(["experiment=agrl_tiny", *(f"guidance.{k}={v}" for k, v in guidance.items())])
    scorer = Scorer(BOOK, config.task.order, config.reward.mode)
    return SimpleNamespace(
        config=config,
        book=BOOK,
        encoder=FakeEncoder(),
        rollouts=FakeRollouts(solved_at),
        rewards=FakeRewards(scorer),
        scorer=scorer,
        replay=FakeReplay(list(stored)),
    )


def failing_group(s, n=4):
    rollouts = [
        Rollout("e1", np.array([0], np.int32), np.arange(5, dtype=np.int32), np.zeros(5, np.float32), WRONG, 3)
        for _ in range(n)
    ]
    return ScoredGroup(EXAMPLE, rollouts, s.rewards.score([(EXAMPLE, WRONG, "stop")] * n))


def test_the_least_hint_that_is_answered_soundly_is_used_and_trained_without_the_hint():
    s = services(solved_at=2)
    (group,), outcomes = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 2)], step=5)
    assert s.rollouts.asked == [1, 2], "level 3 must not be tried once level 2 is solved"
    guided = [r for r in group.rollouts if r.provenance is Provenance.TRANSFER]
    assert len(guided) == 2 and len(group.rollouts) == 4
    assert all(r.prompt_ids.tolist() == [0] and r.hint_level == 2 for r in guided)
    assert all(r.logprobs.tolist() == pytest.approx([-0.5, -0.1]) for r in guided)
    assert outcomes["e1"].solved and outcomes["e1"].level == 2 and outcomes["e1"].replaced == 2


def test_an_unsolved_prompt_keeps_its_group_and_says_so():
    s = services(solved_at=9)
    before = failing_group(s)
    (group,), outcomes = guide(s, [before], [Decision("guide", "low_accuracy", 2)], step=5)
    assert group.rollouts == before.rollouts
    assert s.rollouts.asked == [1, 2, 3]
    assert not outcomes["e1"].solved and outcomes["e1"].replaced == 0


def test_expert_semantics_take_the_behaviour_probability_as_1():
    s = services(solved_at=1, semantics="expert")
    (group,), _ = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 1)], step=5)
    (guided,) = [r for r in group.rollouts if r.provenance is Provenance.EXPERT]
    assert (guided.logprobs == 0).all()


def test_the_reference_source_enters_the_ground_truth_once():
    s = services(source="reference", semantics="expert")
    (group,), outcomes = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 2)], step=5)
    (guided,) = [r for r in group.rollouts if r.provenance is Provenance.EXPERT]
    assert guided.text == render_response(BOOK, reference_judgement(BOOK, EXAMPLE), s.config.task.order)
    assert s.rollouts.asked == [] and outcomes["e1"].level == 0


def test_conditional_semantics_keep_the_hint_and_train_on_policy():
    s = services(solved_at=2, semantics="conditional", temperature=1.0)
    (group,), _ = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 1)], step=5)
    (guided,) = [r for r in group.rollouts if r.text == RIGHT]
    assert guided.provenance is Provenance.ON_POLICY and guided.prompt_ids.tolist() == [2]
    assert guided.logprobs.tolist() == pytest.approx([-0.5, -0.1]), "of the policy that sampled it"


def earlier(text):
    return Rollout("e1", np.array([0], np.int32), np.array([7, 8], np.int32), np.zeros(2, np.float32), text, version=1)


def test_an_earlier_sound_answer_is_recalled_before_any_hint():
    s = services(stored=[earlier(RIGHT)], recall=True)
    (group,), outcomes = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 2)], step=5)
    (guided,) = [r for r in group.rollouts if r.provenance is Provenance.TRANSFER]
    assert guided.version == 1 and guided.text == RIGHT and s.rollouts.asked == []
    assert outcomes["e1"].recalled and outcomes["e1"].solved and outcomes["e1"].replaced == 1


@pytest.mark.parametrize(
    "change", [{"stored": [earlier(WRONG)], "recall": True}, {"stored": [earlier(RIGHT)], "recall": False}]
)
def test_what_is_no_longer_sound_or_not_asked_for_is_not_recalled(change):
    s = services(solved_at=1, **change)
    _, outcomes = guide(s, [failing_group(s)], [Decision("guide", "low_accuracy", 2)], step=5)
    assert s.rollouts.asked == [1] and not outcomes["e1"].recalled and outcomes["e1"].solved


def test_other_decisions_leave_their_groups_alone():
    s = services()
    groups = [failing_group(s), failing_group(s)]
    found, outcomes = guide(s, groups, [Decision("keep", "signal"), Decision("drop", "zero_variance")], step=5)
    assert found == groups and outcomes == {}
