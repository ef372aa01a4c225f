"""The split of a batch: everything once, ranks in step, budgets kept, and the same loss however it is split."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.aggregation import token_weights
from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.algorithms.policy_loss import LossSettings, policy_loss
from agrl.algorithms.schedule import learning_rate
from agrl.relevance.records import Provenance

from .build import gradients, responses, token_batch, train_sequences

lengths = st.lists(st.integers(1, 20), min_size=1, max_size=40)
aggregations = st.sampled_from(["token", "sequence", "constant"])
packings = st.sampled_from(["shared", "packed", "padded"])


groups = st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 20), min_size=1, max_size=9)), max_size=8)


def grouped(sizes):
    """Sequences of groups (prompt length, response lengths); every group has a prompt of its own."""
    ids = lambda n, value: np.full(n, value, np.int32)  # noqa: E731
    return [
        TrainSequence(ids(prompt, group), ids(n, 0), np.zeros(n, np.float32))
        for group, (prompt, own) in enumerate(sizes)
        for n in own
    ]


def cost(sequences, micro, packing):
    """Tokens of a micro-batch, counted independently of the plan."""
    batch = [sequences[i] for i in micro]
    if packing == "padded":
        return len(batch) * max((s.length for s in batch), default=0)
    if packing == "packed":
        return sum(s.length for s in batch)
    return sum(len(p) for p in {tuple(s.prompt_ids): s.prompt_ids for s in batch}.values()) + sum(
        len(s.response_ids) for s in batch
    )


@given(groups, st.integers(1, 4), st.integers(1, 3), st.integers(1, 200), packings)
def test_a_plan_trains_every_sequence_once_with_ranks_in_step(sizes, steps, ranks, budget, packing):
    sequences = grouped(sizes)
    plan = plan_minibatches(sequences, steps, ranks, budget, packing=packing)
    trained = [i for m in plan for rank in m.micro for micro in rank for i in micro]
    assert sorted(trained) == list(range(len(sequences)))
    for minibatch in plan:
        assert len(minibatch.micro) == ranks
        assert len({len(rank) for rank in minibatch.micro}) == 1
        assert sorted(minibatch.weights) == sorted(i for rank in minibatch.micro for micro in rank for i in micro)
        for micro in (micro for rank in minibatch.micro for micro in rank):
            assert cost(sequences, micro, packing) <= budget or len(micro) == 1


@given(groups, st.integers(1, 3), st.integers(1, 200))
def test_a_group_stays_together_unless_it_passes_the_budget(sizes, ranks, budget):
    sequences, first = grouped(sizes), 0
    for minibatch in plan_minibatches(sequences, 1, ranks, budget):
        micros = [micro for rank in minibatch.micro for micro in rank]
        for prompt, lengths in sizes:
            members = set(range(first, first + len(lengths)))
            first += len(lengths)
            parts = [members.intersection(micro) for micro in micros if members.intersection(micro)]
            assert len(parts) == 1 or prompt + sum(lengths) > budget
            own = [sum(len(sequences[i].response_ids) for i in part) for part in sorted(parts, key=min)]
            assert all(prompt + one + other > budget for one, other in pairwise(own))


def test_whole_groups_are_dealt_evenly():
    plan = plan_minibatches(grouped([(50, [10] * 8)] * 6), 1, 3, 300)[0]
    assert [[len(micro) for micro in rank] for rank in plan.micro] == [[16], [16], [16]]


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
