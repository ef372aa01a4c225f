"""Advantages against closed forms, and what must hold for any rewards."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.advantages import ADVANTAGES, EPSILON, decomposed_advantages, group_advantages, whiten

rewards = st.lists(st.floats(0, 1), min_size=1, max_size=16)
kinds = st.sampled_from(ADVANTAGES)


def literal(values: list[float], kind: str) -> list[float]:
    found = []
    for i, value in enumerate(values):
        others = values[:i] + values[i + 1 :]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        by_kind = {
            "grpo": (value - mean) / (deviation + EPSILON),
            "dr_grpo": value - mean,
            "rloo": value - sum(others) / len(others),
        }
        found.append(by_kind[kind])
    return found


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_advantages_equal_a_literal_loop(kind):
    values = [0.1, 0.9, 0.4, 0.4, 1.0]
    found = group_advantages(np.array(values), np.ones(5, bool), kind)
    np.testing.assert_allclose(found, literal(values, kind), rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=16), kinds, st.floats(-5, 5))
def test_a_constant_on_every_reward_changes_nothing(values, kind, constant):
    values = np.round(np.array(values), 3)
    ones = np.ones(len(values), bool)
    moved = group_advantages(values + constant, ones, kind)
    np.testing.assert_allclose(moved, group_advantages(values, ones, kind), atol=1e-6)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="median"):
        group_advantages(np.zeros(1), np.zeros(1, bool), "median")


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_one_valid_reward_or_none_gives_no_advantage(kind):
    for valid in ([False] * 3, [False, True, False]):
        assert (group_advantages(np.array([np.nan, 0.5, np.nan]), np.array(valid), kind) == 0).all()


def test_components_that_are_all_invalid_give_no_advantage():
    found = decomposed_advantages(np.full((3, 2), np.nan), np.zeros((3, 2), bool), np.ones(2))
    assert (found == 0).all()


def test_a_group_by_hand():
    found = group_advantages(np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4, bool))
    deviation = np.sqrt(4 * 0.25 / 3)
    np.testing.assert_allclose(found, np.array([0.5, -0.5, -0.5, 0.5]) / deviation, rtol=1e-5)


@given(rewards, kinds)
def test_advantages_of_a_group_sum_to_nothing(values, kind):
    found = group_advantages(np.array(values), np.ones(len(values), bool), kind)
    assert abs(found.sum()) < 1e-6
    assert np.isfinite(found).all()


@given(rewards, st.data())
def test_invalid_rewards_change_nothing(values, data):
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    found = group_advantages(np.array(values), valid)
    corrupted = np.where(valid, values, np.nan)
    np.testing.assert_array_equal(group_advantages(corrupted, valid), found)
    np.testing.assert_array_equal(found[valid], group_advantages(np.array(values)[valid], np.ones(valid.sum(), bool)))
    assert (found[~valid] == 0).all()


@pytest.mark.parametrize("kind", ADVANTAGES)
def test_equal_rewards_give_no_advantage(kind):
    assert (group_advantages(np.full(8, 0.3), np.ones(8, bool), kind) == 0).all()


def test_decomposed_gives_every_component_the_same_say_before_weighting():
    # the second component has a tenth of the first's range; normalised, it counts as much
    values = np.array([[1.0, 0.5], [0.0, 0.6], [1.0, 0.5], [0.0, 0.6]])
    found = decomposed_advantages(values, np.ones((4, 2), bool), np.array([1.0, 1.0]))
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_a_constant_or_invalid_component_contributes_nothing():
    values = np.array([[1.0, 0.7, 0.1], [0.0, 0.7, 0.9]])
    valid = np.array([[True, True, True], [True, True, False]])
    found = decomposed_advantages(values, valid, np.array([2.0, 5.0, 5.0]))
    np.testing.assert_allclose(found, 2 * group_advantages(values[:, 0], valid[:, 0]))


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=30))
def test_whitened_advantages_have_mean_0_and_deviation_1_or_are_all_0(values):
    found = whiten(np.array(values))
    assert abs(found.mean()) < 1e-6
    assert np.isclose(found.std(ddof=1), 1, atol=1e-2) or (np.ptp(values) < 1e-3)
