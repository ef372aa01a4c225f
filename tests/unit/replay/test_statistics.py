import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.relevance.records import Provenance
from replay.buffer import TrajectoryBuffer
from replay.statistics import HISTORY, PromptTable

from .build import rollout


def test_moving_accuracy_starts_at_the_first_outcome():
    table = PromptTable(ema=0.25)
    assert table.update("a", 8, 8, version=3, step=0).accuracy == 1.0
    assert table.update("a", 0, 8, version=2, step=5).accuracy == 0.75
    stats = table["a"]
    assert (stats.attempts, stats.last_version, stats.last_step) == (2, 3, 5)
    assert table["never"].attempts == 0 and "never" not in table


def test_failing_counts_back_from_the_newest_outcome():
    table = PromptTable()
    for correct in (0, 4, 1, 0):
        table.update("a", correct, 8, version=0, step=0)
    assert [table["a"].failing(tau) for tau in (0.0, 0.125, 0.5)] == [1, 2, 4]


def test_outcome_that_cannot_be_is_refused():
    for correct, rollouts in ((0, 0), (9, 8), (-1, 8)):
        with pytest.raises(ValueError, match="'a'"):
            PromptTable().update("a", correct, rollouts, version=0, step=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 7), st.booleans()), max_size=40))
def test_table_survives_json(events):
    table = PromptTable(ema=0.3)
    for step, (name, correct, guided) in enumerate(events):
        table.update(name, correct, 7, version=step, step=step)
        if guided:
            table.guided(name, solved=correct > 3, level=2)
    again = PromptTable(ema=0.3)
    again.load_state_dict(json.loads(json.dumps(table.state_dict())))
    assert dict(again.items()) == dict(table.items())
    assert all(0 <= s.accuracy <= 1 and len(s.outcomes) <= HISTORY for _, s in table.items())


def test_buffer_keeps_the_least_surprising_of_each_prompt():
    buffer = TrajectoryBuffer(prompts=2, per_prompt=2)
    for text, logprob in (("x", -1.0), ("y", -0.1), ("z", -0.5)):
        buffer.add(rollout("a", text, logprob=logprob))
    assert [r.text for r in buffer.best("a", 5)] == ["y", "z"]
    buffer.add(rollout("a", "y", logprob=-0.9, version=8))  # the same text, sampled again by newer weights
    assert [(r.text, r.version) for r in buffer.best("a", 5)] == [("z", 0), ("y", 8)]


def test_buffer_is_bounded_and_forgets_the_prompt_that_waited_longest():
    buffer = TrajectoryBuffer(prompts=2, per_prompt=1)
    for name in ("a", "b", "a", "c"):
        buffer.add(rollout(name))
    assert len(buffer) == 2 and buffer.best("b") == [] and buffer.best("a") and buffer.best("c")


def test_buffer_owns_its_arrays_and_refuses_what_the_policy_did_not_sample():
    buffer, mine = TrajectoryBuffer(), rollout("a")
    buffer.add(mine)
    assert not np.shares_memory(buffer.best("a")[0].response_ids, mine.response_ids)
    with pytest.raises(ValueError, match="on-policy"):
        buffer.add(rollout("a", provenance=Provenance.TRANSFER))


def test_buffer_survives_json():
    buffer, again = TrajectoryBuffer(), TrajectoryBuffer()
    buffer.add(rollout("a", logprob=-1 / 3))
    again.load_state_dict(json.loads(json.dumps(buffer.state_dict())))
    before, after = buffer.best("a")[0], again.best("a")[0]
    assert np.array_equal(after.logprobs, before.logprobs) and after.logprobs.dtype == np.float32
    assert after.response_ids.dtype == np.int32 and after.provenance is Provenance.ON_POLICY
    assert json.dumps(again.state_dict()) == json.dumps(buffer.state_dict())
