"""The check of rollout log-probabilities against the learner's."""

import numpy as np
import pytest

from agrl.errors import WeightSyncError
from learner.sync_check import SyncGap, sync_metrics


def test_equal_logprobs_pass_and_measure_as_equal():
    gap = SyncGap()
    gap.add(0, np.array([-1.0, -2.0]), np.array([-1.0, -2.0]))
    gap.check(version=3, tolerance=1e-9)
    metrics = sync_metrics(gap.sums(), gap.maximum)
    assert metrics == {"sync/gap_mean": 0, "sync/gap_max": 0, "sync/kl": 0, "sync/ess": pytest.approx(1)}


def test_the_actor_that_differs_is_named_even_among_many_that_agree():
    gap = SyncGap()
    for actor in (0, 2):
        gap.add(actor, np.full(1000, -1.0), np.full(1000, -1.0))
    gap.add(1, np.full(10, -1.0), np.full(10, -1.01))
    with pytest.raises(WeightSyncError, match=r"rollout actor 1 .* version 7"):
        gap.check(version=7, tolerance=1e-3)


def test_nan_does_not_pass():
    gap = SyncGap()
    gap.add(0, np.array([np.nan]), np.array([-1.0]))
    with pytest.raises(WeightSyncError):
        gap.check(version=0, tolerance=1e9)


def test_metrics_against_their_definitions():
    learner, rollout = np.array([-1.0, -0.5, -2.0]), np.array([-1.2, -0.4, -2.0])
    gap = SyncGap()
    gap.add(0, learner, rollout)
    found = sync_metrics(gap.sums(), gap.maximum)
    d = learner - rollout
    w = np.exp(d)
    assert found["sync/gap_mean"] == pytest.approx(np.abs(d).mean())
    assert found["sync/gap_max"] == pytest.approx(0.2)
    assert found["sync/kl"] == pytest.approx((w - 1 - d).mean())
    assert found["sync/ess"] == pytest.approx(w.sum() ** 2 / (3 * (w**2).sum()))


def test_nothing_to_compare_gives_no_metrics():
    assert sync_metrics(SyncGap().sums(), 0.0) == {}
