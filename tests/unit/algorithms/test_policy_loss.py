"""The policy loss, in every combination of its options, against a literal loop over responses and tokens."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.policy_loss import LossSettings, policy_loss
from agrl.algorithms.sequence_ratio import sequence_log_ratio
from agrl.relevance.records import Provenance

from .build import gradients, responses, token_batch

LIMIT = 16
LENGTHS = (3, 1, 7, 4, 1, 5)
COMBINATIONS = [
    LossSettings(ratio=ratio, importance=importance, importance_cap=1.2, kl_coef=kl, entropy_coef=entropy)
    for ratio, importance, (kl, entropy) in product(
        ("token", "sequence"), ("truncate", "mask", "none"), ((0.0, 0.0), (0.1, 0.05))
    )
]
several = pytest.mark.parametrize("s", COMBINATIONS, ids=lambda s: f"{s.ratio}-{s.importance}-kl{s.kl_coef:g}")


def literal_weight(w: float, s: LossSettings) -> float:
    if s.importance == "truncate":
        return min(w, s.importance_cap)
    if s.importance == "mask":
        return w if 1 / s.importance_cap <= w <= s.importance_cap else 0.0
    return 1.0


def literal_token(r, t, s: LossSettings) -> torch.Tensor:
    """The loss of token ``t`` of response ``r`` before aggregation."""
    if r.provenance == Provenance.MASKED:
        return r.new[t] * 0
    if r.provenance == Provenance.EXPERT:
        p = r.new[t].exp()
        return -r.advantage * p / (p + s.gamma)
    tokens = range(len(r)) if s.ratio == "sequence" else [t]
    ratio = (sum(r.new[u] - r.old[u] for u in tokens) / len(tokens)).exp()
    clipped = min(max(ratio, 1 - s.clip_low), 1 + s.clip_high)
    loss = -min(r.advantage * ratio, r.advantage * clipped)
    if r.provenance == Provenance.ON_POLICY:
        loss = loss * literal_weight((sum(r.old[u] - r.rollout[u] for u in tokens) / len(tokens)).exp().item(), s)
    d = r.reference[t] - r.new[t]
    return loss + s.kl_coef * (d.exp() - 1 - d) - s.entropy_coef * r.entropy[t]


def literal_loss(items, s: LossSettings, aggregation: str) -> torch.Tensor:
    sums = [sum(literal_token(r, t, s) for t in range(len(r))) for r in items]
    if aggregation == "token":
        return sum(sums) / sum(len(r) for r in items)
    if aggregation == "sequence":
        return sum(total / len(r) for total, r in zip(sums, items, strict=True)) / len(items)
    return sum(sums) / (len(items) * LIMIT)


@several
@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_loss_and_gradients_equal_a_literal_loop(s, aggregation):
    items = responses(LENGTHS, seed=3, provenances=[*list(Provenance)[1:], Provenance.ON_POLICY], spread=0.4)
    loss, statistics = policy_loss(token_batch(items, aggregation, LIMIT), s)
    expected = literal_loss(items, s, aggregation)
    torch.testing.assert_close(loss.sum(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(loss.sum(), items), gradients(expected, items), rtol=1e-9, atol=1e-12)
    assert statistics["clipped"] > 0, "the clip must take part, or this shows too little"
    assert s.importance != "mask" or statistics["masked"] > 0


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 99),
    st.floats(0, 3),
    st.sampled_from(COMBINATIONS),
)
def test_any_batch_equals_a_literal_loop(lengths, seed, spread, s):
    items = responses(lengths, seed, list(Provenance), spread)
    loss, _ = policy_loss(token_batch(items, "sequence", LIMIT), s)
    torch.testing.assert_close(loss.sum(), literal_loss(items, s, "sequence"), rtol=1e-9, atol=1e-9)


@several
def test_masked_tokens_have_no_loss_and_no_gradient(s):
    items = responses(LENGTHS, provenances=[Provenance.MASKED])
    loss, statistics = policy_loss(token_batch(items), s)
    assert (loss == 0).all() and (gradients(loss.sum(), items) == 0).all()
    assert statistics["sampled"] == 0


def test_masked_tokens_of_a_sequence_take_no_part_in_its_ratio():
    new, old = torch.tensor([-1.0, -9.0, -2.0]), torch.tensor([-1.5, -1.0, -1.8])
    counted = torch.tensor([True, False, True])
    found = sequence_log_ratio(new, old, torch.zeros(3, dtype=torch.int64), counted)
    torch.testing.assert_close(found, torch.full((3,), (0.5 - 0.2) / 2))


@several
def test_a_one_token_response_has_the_same_token_and_sequence_ratio(s):
    items = responses([1, 1, 1], seed=5)
    other = LossSettings(**{**vars(s), "ratio": "token" if s.ratio == "sequence" else "sequence"})
    torch.testing.assert_close(policy_loss(token_batch(items), s)[0], policy_loss(token_batch(items), other)[0])


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_a_ratio_that_overflows_stays_finite_and_has_no_gradient(ratio):
    items = responses([2, 3])
    for r in items:
        r.old, r.rollout, r.advantage = r.old - 1e4, r.old - 2e4, -1.0
    loss, _ = policy_loss(token_batch(items), LossSettings(ratio=ratio))
    assert torch.isfinite(loss).all()
    assert (gradients(loss.sum(), items) == 0).all()


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_first_update_is_the_policy_gradient_whatever_the_ratio(ratio):
    items = responses(LENGTHS, seed=2)
    for r in items:
        r.old = r.rollout = r.new.detach()
    loss, statistics = policy_loss(token_batch(items, "sequence"), LossSettings(ratio=ratio))
    expected = torch.cat([torch.full((len(r),), -r.advantage / len(r) / len(items)).double() for r in items])
    torch.testing.assert_close(gradients(loss.sum(), items), expected)
    assert statistics["clipped"] == 0


def test_the_entropy_bonus_raises_the_entropy_of_sampled_tokens_only():
    items = responses([2, 2, 2], provenances=[Provenance.ON_POLICY, Provenance.EXPERT, Provenance.TRANSFER])
    loss, _ = policy_loss(token_batch(items), LossSettings(entropy_coef=0.3))
    sampled, expert, transfer = torch.autograd.grad(loss.sum(), [r.entropy for r in items])
    torch.testing.assert_close(sampled, torch.full((2,), -0.3 / 6).double())
    torch.testing.assert_close(transfer, sampled)
    assert (expert == 0).all()


def test_what_is_missing_or_unknown_is_refused():
    batch = token_batch(responses([1]))
    with pytest.raises(ValueError, match="word"):
        policy_loss(batch, LossSettings(ratio="word"))
    batch.reference_logprobs = None
    with pytest.raises(ValueError, match="reference_logprobs"):
        policy_loss(batch, LossSettings(kl_coef=0.1))
