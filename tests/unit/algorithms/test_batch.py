"""The split of a batch: everything once, ranks in step, budgets kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.batch import TrainSequence, plan_minibatches
from agrl.algorithms.schedule import learning_rate

lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=40)


def sequences_of(pairs):
    return [TrainSequence(np.zeros(p, np.int32), np.zeros(t, np.int32), np.zeros(t, np.float32)) for p, t in pairs]


@given(lengths, st.integers(1, 4), st.integers(1, 3), st.integers(1, 200))
def test_a_plan_trains_every_sequence_once_with_ranks_in_step(pairs, steps, ranks, budget):
    sequences = sequences_of(pairs)
    plan = plan_minibatches(sequences, steps, ranks, budget)
    trained = [i for m in plan for rank in m.micro for micro in rank for i in micro]
    assert sorted(trained) == list(range(len(sequences)))
    assert sum(m.tokens for m in plan) == sum(t for _, t in pairs)
    for minibatch in plan:
        assert len(minibatch.micro) == ranks
        assert len({len(rank) for rank in minibatch.micro}) == 1
        for micro in (micro for rank in minibatch.micro for micro in rank):
            padded = len(micro) * max((sequences[i].length for i in micro), default=0)
            assert padded <= budget or len(micro) == 1


def test_order_across_optimizer_steps_is_kept():
    plan = plan_minibatches(sequences_of([(3, 2)] * 8), 2, 1, 1000)
    assert [sorted(i for micro in m.micro[0] for i in micro) for m in plan] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_learning_rate_warms_up_then_follows_its_schedule():
    rates = [learning_rate(step, 1.0, 100, 10, "cosine") for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] > 0
    assert rates[10] == 1.0 and abs(rates[100]) < 1e-12 and abs(rates[55] - 0.5) < 1e-12
    assert learning_rate(99, 0.5, 100, 0, "constant") == 0.5
