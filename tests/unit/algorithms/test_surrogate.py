"""The terms of the loss, each against its closed form."""

import math

import pytest
import torch

from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.importance import importance_weights
from agrl.algorithms.surrogate import clipped_surrogate, log_ratio, shaped_expert


def test_gradient_of_an_expert_token_is_luffys_closed_form():
    logprobs = torch.linspace(-6, 0, 20, dtype=torch.float64, requires_grad=True)
    shaped_expert(logprobs, torch.ones(20, dtype=torch.float64), gamma=0.1).sum().backward()
    p = logprobs.detach().exp()
    # d/dp of p/(p+g) is g/(p+g)^2, and d/dlogp = p d/dp
    torch.testing.assert_close(logprobs.grad, -0.1 * p / (p + 0.1) ** 2)


def test_first_update_of_a_clipped_surrogate_is_the_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5])
    clipped_surrogate(log_ratio(logprobs, logprobs.detach()).exp(), advantages, 0.2, 0.28).sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [(1, 1.29, False), (1, 1.27, True), (-1, 0.79, False), (-1, 0.81, True), (1, 0.5, True), (-1, 2.0, True)],
)
def test_clip_stops_the_gradient_only_on_the_far_side(advantage, ratio, moves):
    ratio = torch.tensor([ratio], requires_grad=True)
    clipped_surrogate(ratio, torch.tensor([float(advantage)]), 0.2, 0.28).sum().backward()
    assert (ratio.grad.item() != 0) == moves


def test_an_absurd_ratio_stays_finite():
    ratio = log_ratio(torch.tensor([0.0]), torch.tensor([-1e4])).exp()
    assert torch.isfinite(clipped_surrogate(ratio, torch.tensor([-1.0]), 0.2, 0.28)).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("truncate", [2.0, 1.5, 0.6, 0.4]), ("mask", [0.0, 1.5, 0.6, 0.0]), ("none", [1.0, 1.0, 1.0, 1.0])],
)
def test_importance_weights_by_hand(kind, expected):
    mismatch = torch.tensor([3.0, 1.5, 0.6, 0.4]).log().requires_grad_()
    weights = importance_weights(mismatch, kind, cap=2.0)
    torch.testing.assert_close(weights, torch.tensor(expected))
    assert not weights.requires_grad


@pytest.mark.parametrize("kind", ["truncate", "mask", "none"])
def test_engines_that_agree_need_no_correction(kind):
    assert (importance_weights(torch.zeros(3), kind, cap=2.0) == 1).all()


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_estimators_against_their_definitions(estimator):
    policy, reference = torch.tensor([-1.0, -3.0]), torch.tensor([-1.5, -1.0])
    d = reference - policy
    expected = {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - 1 - d}[estimator]
    torch.testing.assert_close(kl_estimate(policy, reference, estimator), expected)


def test_k1_and_k3_are_unbiased():
    policy, reference = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    exact = (policy * (policy / reference).log()).sum()
    for estimator in ("k1", "k3"):
        estimate = (policy * kl_estimate(policy.log(), reference.log(), estimator)).sum()
        torch.testing.assert_close(estimate, exact)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="k9"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k9")
    with pytest.raises(ValueError, match="clamp"):
        importance_weights(torch.zeros(1), "clamp", 2.0)
    assert math.isfinite(importance_weights(torch.tensor([20.0]), "none", 2.0).item())
