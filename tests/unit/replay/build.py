"""Small records to decide about, and a policy to play with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from agrl.relevance.records import Component, Example, Product, Provenance, Rollout, Score, ScoredGroup


def example(example_id: str = "a") -> Example:
    return Example(id=example_id, query="grinder", product=Product("a grinder"), tier=4)


def rollout(example_id: str = "a", text: str = "x", length: int = 3, logprob: float = -0.5, **others) -> Rollout:
    tokens = np.arange(length, dtype=np.int32)
    logprobs = np.full(length, logprob, np.float32)
    return Rollout(example_id, np.arange(2, dtype=np.int32), tokens, logprobs, text, **{"version": 0, **others})


def score(total: float, correct: bool = False, valid: bool = True, sound: bool = False, **components: float) -> Score:
    parts = {name: Component(value) for name, value in components.items()}
    return Score(total if valid else float("nan"), valid, parts, correct, correct, sound, None)


def group(*scores: Score, example_id: str = "a") -> ScoredGroup:
    rollouts = [rollout(example_id, text=f"{example_id}{i}") for i in range(len(scores))]
    return ScoredGroup(example(example_id), rollouts, list(scores))


def outcome(correct: int, rollouts: int, example_id: str = "a") -> ScoredGroup:
    """A group of which ``correct`` rollouts are right, and sound, and earn 1; the others earn 0."""
    right, wrong = score(1.0, correct=True, sound=True), score(0.0)
    return group(*[right] * correct, *[wrong] * (rollouts - correct), example_id=example_id)


@st.composite
def groups(draw: st.DrawFn, example_id: str = "a", size: int = 8) -> ScoredGroup:
    """Any group at all: right or wrong, valid or not, of any length and reward."""
    built = ScoredGroup(example(example_id), [], [])
    for i in range(draw(st.integers(1, size))):
        correct, valid = draw(st.booleans()), draw(st.booleans())
        built.scores.append(score(draw(st.sampled_from([0.0, 0.25, 1.0])), correct and valid, valid, sound=correct))
        built.rollouts.append(rollout(example_id, f"{example_id}{i}", draw(st.integers(1, 9))))
    return built


def transferred(text: str, hint_level: int = 1) -> Rollout:
    return rollout(text=text, hint_level=hint_level, provenance=Provenance.TRANSFER)
