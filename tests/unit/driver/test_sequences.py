"""From scored groups to training sequences."""

import numpy as np
import pytest

from agrl.algorithms.advantages import group_advantages
from agrl.driver.experiments.sft import shuffled_batches
from agrl.driver.generation.rollout_metrics import rollout_metrics
from agrl.driver.generation.sequences import group_relative, train_sequences
from agrl.driver.step import refuse_unscored
from agrl.errors import RewardError
from agrl.relevance.records import (
    Component,
    Example,
    Judgement,
    Product,
    Provenance,
    RewardMode,
    Rollout,
    Score,
    ScoredGroup,
)
from agrl.relevance.reward import invalid_score

NAMES = ("format", "category", "tier")
WEIGHTS = {"format": 0.2, "category": 0.3, "tier": 0.5}


def score(*values: float, correct=False, consistent=True) -> Score:
    components = {name: Component(value) for name, value in zip(NAMES, values, strict=True)}
    total = sum(WEIGHTS[name] * c.value for name, c in components.items())
    return Score(total, True, components, correct, consistent, correct, Judgement(1, {}))


def rollout(length=3, provenance=Provenance.ON_POLICY) -> Rollout:
    ids = np.arange(length, dtype=np.int32)
    return Rollout(
        "x", np.arange(4, dtype=np.int32), ids, np.zeros(length, np.float32), "", 5, 1, provenance=provenance
    )


def group(*scores: Score) -> ScoredGroup:
    return ScoredGroup(Example("x", "q", Product("t"), 1), [rollout(i + 1) for i in range(len(scores))], list(scores))


GOOD, BAD, BROKEN = score(1, 1, 1, correct=True), score(1, 0, 0), invalid_score(NAMES, "timeout")


def relative(groups, mode=RewardMode.rules, kind="grpo", penalties=None):
    return group_relative(groups, mode, WEIGHTS, kind, penalties or [np.zeros(len(g.rollouts)) for g in groups])


def test_totals_become_group_relative_advantages_and_invalid_ones_are_not_trained():
    (found,) = relative([group(GOOD, BROKEN, BAD)])
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], group_advantages(np.array([1.0, 0.2]), np.ones(2, bool)))
    trained = train_sequences([group(GOOD, BROKEN, BAD)], [found])
    assert [len(s.response_ids) for s in trained] == [1, 3]
    assert all(s.version == 5 and s.actor == 1 for s in trained)


def test_a_group_without_signal_is_left_out_of_training():
    groups = [group(BAD, BAD), group(GOOD, BAD)]
    advantages = relative(groups)
    assert len(train_sequences(groups, advantages)) == 2


def test_decomposed_advantages_are_whitened_over_the_batch():
    groups = [group(GOOD, BAD, BAD), group(GOOD, GOOD, BROKEN), group(score(0, 0, 0), GOOD, BAD)]
    found = relative(groups, RewardMode.decomposed)
    flat = np.concatenate(found)
    assert np.isnan(flat).sum() == 1
    assert abs(np.nanmean(flat)) < 1e-9
    assert np.nanstd(flat, ddof=1) == pytest.approx(1, abs=1e-4)
    assert found[0][0] > 0 > found[0][1]


def test_a_penalty_is_taken_off_the_total_before_the_baseline():
    (found,) = relative([group(GOOD, BROKEN, BAD)], kind="rloo", penalties=[np.array([0.3, 9.0, 0.1])])
    assert np.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], [0.7 - 0.1, 0.1 - 0.7])


def test_nothing_to_train_on_is_no_error():
    assert relative([]) == [] and train_sequences([], []) == []
    broken = [group(BROKEN, BROKEN)]
    for mode in RewardMode:
        assert train_sequences(broken, relative(broken, mode)) == []


def test_metrics_leave_invalid_scores_out_and_count_them():
    metrics = rollout_metrics([group(GOOD, BROKEN, BAD), group(score(1, 0, 1, correct=True), BAD)], NAMES)
    assert metrics["train/accuracy"] == 2 / 4
    assert metrics["rollout/generated_groups"] == 2
    assert metrics["train/right_tier_wrong_verdict"] == 1 / 4
    assert metrics["reward/invalid"] == 1
    assert metrics["reward/category_invalid"] == 1
    assert metrics["reward/category_mean"] == 1 / 4
    assert metrics["response/length_mean"] == pytest.approx((1 + 2 + 3 + 1 + 2) / 5)


def test_a_step_without_any_valid_score_is_refused_with_its_reason():
    with pytest.raises(RewardError, match=r"not one of 2 rollouts .* timeout"):
        refuse_unscored([group(BROKEN, BROKEN)])
    refuse_unscored([group(BROKEN, BAD)])


def test_sft_batches_show_every_row_once_an_epoch():
    batches = list(shuffled_batches(list(range(10)), size=4, steps=5, seed=3))
    assert [len(b) for b in batches] == [4] * 5
    seen = [row for b in batches for row in b]
    assert sorted(seen[:10]) == list(range(10)) and sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert batches == list(shuffled_batches(list(range(10)), size=4, steps=5, seed=3))
