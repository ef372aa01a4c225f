"""The split of a batch: everything once, ranks in step, budgets kept, and the same loss however it is split."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.aggregation import token_weights
from agrl.algorithms.batch import plan_minibatches
from agrl.algorithms.policy_loss import LossSettings, policy_loss
from agrl.algorithms.schedule import learning_rate
from agrl.relevance.records import Provenance

from .build import gradients, responses, token_batch, train_sequences

lengths = st.lists(st.integers(1, 20), min_size=1, max_size=40)
aggregations = st.sampled_from(["token", "sequence", "constant"])


@given(lengths, st.integers(1, 4), st.integers(1, 3), st.integers(1, 200))
def test_a_plan_trains_every_sequence_once_with_ranks_in_step(sizes, steps, ranks, budget):
    sequences = train_sequences(sizes)
    plan = plan_minibatches(sequences, steps, ranks, budget)
    trained = [i for m in plan for rank in m.micro for micro in rank for i in micro]
    assert sorted(trained) == list(range(len(sequences)))
    for minibatch in plan:
        assert len(minibatch.micro) == ranks
        assert len({len(rank) for rank in minibatch.micro}) == 1
        assert sorted(minibatch.weights) == sorted(i for rank in minibatch.micro for micro in rank for i in micro)
        for micro in (micro for rank in minibatch.micro for micro in rank):
            padded = len(micro) * max((sequences[i].length for i in micro), default=0)
            assert padded <= budget or len(micro) == 1


def test_order_across_optimizer_steps_is_kept():
    plan = plan_minibatches(train_sequences([2] * 8), 2, 1, 1000)
    assert [sorted(i for micro in m.micro[0] for i in micro) for m in plan] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_batch_that_lost_all_its_groups_has_no_minibatch():
    assert plan_minibatches([], 2, 3, 1000) == []


@given(lengths, st.integers(1, 4), aggregations)
def test_every_minibatch_is_a_mean(sizes, steps, aggregation):
    """Tokens that all lose 1 make a loss of 1; with the constant, of their share of the longest response."""
    sequences = train_sequences(sizes)
    for minibatch in plan_minibatches(sequences, steps, 1, 100, aggregation, 20):
        total = sum(weight * sizes[i] for i, weight in minibatch.weights.items())
        share = np.mean([sizes[i] for i in minibatch.weights]) / 20
        assert total == pytest.approx(share if aggregation == "constant" else 1.0)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(1, 3),
    st.integers(1, 40),
    aggregations,
    st.sampled_from([LossSettings(), LossSettings(ratio="sequence", importance="mask", kl_coef=0.1, entropy_coef=0.1)]),
)
def test_the_loss_does_not_depend_on_ranks_and_micro_batches(sizes, ranks, budget, aggregation, settings):
    items = responses(sizes, seed=7, provenances=list(Provenance))
    whole = policy_loss(token_batch(items, aggregation, 6), settings)[0].sum()
    (minibatch,) = plan_minibatches(train_sequences(sizes), 1, ranks, budget, aggregation, 6)
    micros = [micro for rank in minibatch.micro for micro in rank if micro]
    batches = [token_batch([items[i] for i in m], weights=[minibatch.weights[i] for i in m]) for m in micros]
    parts = sum(policy_loss(batch, settings)[0].sum() for batch in batches)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(parts, items), gradients(whole, items), rtol=1e-9, atol=1e-12)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="words"):
        token_weights(np.array([1]), "words", 1)


def test_learning_rate_warms_up_then_follows_its_schedule():
    rates = [learning_rate(step, 1.0, 100, 10, "cosine") for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] > 0
    assert rates[10] == 1.0 and abs(rates[100]) < 1e-12 and abs(rates[55] - 0.5) < 1e-12
    assert learning_rate(99, 0.5, 100, 0, "constant") == 0.5
