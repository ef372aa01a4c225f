"""Losses against a literal loop over tokens, and against closed forms where there is one."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.divergence import kl_estimate
from agrl.algorithms.policy_loss import LossSettings, TokenBatch, policy_loss
from agrl.algorithms.surrogate import clipped_surrogate, shaped_expert, truncated_importance
from agrl.relevance.records import Provenance

finite = st.floats(-8, 0)
tokens = st.lists(
    st.tuples(finite, finite, finite, st.floats(-3, 3), st.sampled_from(list(Provenance))), min_size=1, max_size=12
)


def batch_of(rows, requires_grad=False) -> TokenBatch:
    new, old, rollout, advantage, provenance = zip(*rows, strict=True)
    as_tensor = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    logprobs = as_tensor(new).requires_grad_(requires_grad)
    return TokenBatch(
        logprobs, as_tensor(old), as_tensor(rollout), as_tensor(advantage), torch.tensor([int(p) for p in provenance])
    )


def literal_loss(new, old, rollout, advantage, provenance, s: LossSettings) -> float:
    ratio = math.exp(new - old)
    clipped = min(max(ratio, 1 - s.clip_low), 1 + s.clip_high)
    surrogate = -min(advantage * ratio, advantage * clipped)
    if provenance == Provenance.ON_POLICY:
        return surrogate * min(math.exp(old - rollout), s.importance_cap)
    if provenance == Provenance.TRANSFER:
        return surrogate
    if provenance == Provenance.EXPERT:
        p = math.exp(new)
        return -advantage * p / (p + s.gamma)
    return 0.0


@given(tokens)
def test_policy_loss_equals_a_literal_loop(rows):
    settings = LossSettings()
    loss, _ = policy_loss(batch_of(rows), settings)
    expected = torch.tensor([literal_loss(*row, settings) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)


@given(tokens)
def test_masked_tokens_have_no_loss_and_no_gradient(rows):
    batch = batch_of(rows, requires_grad=True)
    loss, _ = policy_loss(batch, LossSettings())
    loss.sum().backward()
    masked = batch.provenance == Provenance.MASKED
    assert (loss[masked] == 0).all()
    assert (batch.logprobs.grad[masked] == 0).all()


def test_gradient_of_an_expert_token_is_luffys_closed_form():
    logprobs = torch.linspace(-6, 0, 20, dtype=torch.float64, requires_grad=True)
    shaped_expert(logprobs, torch.ones(20, dtype=torch.float64), gamma=0.1).sum().backward()
    p = logprobs.detach().exp()
    # d/dp of p/(p+g) is g/(p+g)^2, and d/dlogp = p d/dp
    torch.testing.assert_close(logprobs.grad, -0.1 * p / (p + 0.1) ** 2)


def test_first_update_of_a_clipped_surrogate_is_the_policy_gradient():
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5])
    clipped_surrogate(logprobs, logprobs.detach(), advantages, 0.2, 0.28).sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [(1, 1.29, False), (1, 1.27, True), (-1, 0.79, False), (-1, 0.81, True), (1, 0.5, True), (-1, 2.0, True)],
)
def test_clip_stops_the_gradient_only_on_the_far_side(advantage, ratio, moves):
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    clipped_surrogate(logprobs, torch.zeros(1), torch.tensor([float(advantage)]), 0.2, 0.28).sum().backward()
    assert (logprobs.grad.item() != 0) == moves


def test_an_absurd_ratio_stays_finite():
    loss = clipped_surrogate(torch.tensor([0.0]), torch.tensor([-1e4]), torch.tensor([-1.0]), 0.2, 0.28)
    assert torch.isfinite(loss).all()


def test_truncated_importance_is_capped_and_detached():
    old = torch.tensor([-1.0, -1.0], requires_grad=True)
    weight = truncated_importance(old, torch.tensor([-5.0, -0.5]), cap=2.0)
    torch.testing.assert_close(weight, torch.tensor([2.0, math.exp(-0.5)]))
    assert not weight.requires_grad


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


def test_an_unknown_estimator_and_a_missing_reference_are_refused():
    with pytest.raises(ValueError, match="k9"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k9")
    with pytest.raises(ValueError, match="reference_logprobs"):
        policy_loss(batch_of([(-1.0, -1.0, -1.0, 1.0, Provenance.ON_POLICY)]), LossSettings(kl_coef=0.1))
