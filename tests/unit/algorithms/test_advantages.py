"""Advantages against closed forms, and what must hold for any rewards."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.advantages import decomposed_advantages, group_advantages, whiten

rewards = st.lists(st.floats(0, 1), min_size=1, max_size=16)


def test_a_group_by_hand():
    found = group_advantages(np.array([1.0, 0.0, 0.0, 1.0]), np.ones(4, bool))
    deviation = np.sqrt(4 * 0.25 / 3)
    np.testing.assert_allclose(found, np.array([0.5, -0.5, -0.5, 0.5]) / deviation, rtol=1e-5)


@given(rewards, st.booleans())
def test_advantages_of_a_group_sum_to_nothing(values, normalise):
    found = group_advantages(np.array(values), np.ones(len(values), bool), normalise)
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


def test_equal_rewards_give_no_advantage():
    assert (group_advantages(np.full(8, 0.3), np.ones(8, bool)) == 0).all()


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
