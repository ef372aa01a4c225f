"""Preference pairs: a right answer over a worse one, by a margin, no text twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agrl.relevance.pairs import preference_pairs
from agrl.relevance.records import Rollout, Score, ScoredGroup
from tests.unit.relevance.strategies import make_example


def group(*answers):
    """Answers as (text, total reward or None for invalid, right tier)."""
    rollouts = [Rollout("e", np.zeros(1), np.zeros(1), np.zeros(1), text, 0) for text, _, _ in answers]
    scores = [
        Score(total if total is not None else np.nan, total is not None, {}, correct, True, correct, None)
        for _, total, correct in answers
    ]
    return ScoredGroup(make_example(), rollouts, scores)


def test_the_best_right_answer_stands_against_the_worst_and_so_on_inwards():
    found = group(("a", 0.9, True), ("b", 0.2, False), ("c", 1.0, True), ("d", 0.0, False), ("e", 0.5, False))
    assert preference_pairs(found, 0.2, 5) == [(2, 3), (0, 1)]
    assert preference_pairs(found, 0.2, 1) == [(2, 3)]
    assert preference_pairs(found, 0.8, 5) == [(2, 3)]


def test_a_prompt_that_no_sample_solves_or_all_solve_alike_gives_no_pair():
    assert preference_pairs(group(("a", 0.6, False), ("b", 0.1, False)), 0.1, 2) == []
    assert preference_pairs(group(("a", 1.0, True), ("b", 1.0, True)), 0.1, 2) == []


def test_repetitions_and_invalid_scores_take_no_part():
    found = group(("a", 1.0, True), ("a", 1.0, True), ("b", 0.0, False), ("b", 0.0, False), ("c", None, False))
    assert preference_pairs(found, 0.1, 4) == [(0, 2)]


answer = st.tuples(st.sampled_from("abcdefgh"), st.none() | st.floats(0, 1), st.booleans())


@given(st.lists(answer, max_size=10), st.floats(0.01, 1), st.integers(1, 4))
def test_every_pair_keeps_the_promises(answers, margin, limit):
    found = group(*answers)
    pairs = preference_pairs(found, margin, limit)
    texts = [found.rollouts[i].text for pair in pairs for i in pair]
    assert len(pairs) <= limit and len(set(texts)) == len(texts)
    for preferred, other in pairs:
        assert found.scores[preferred].correct
        assert found.scores[preferred].total - found.scores[other].total >= margin
