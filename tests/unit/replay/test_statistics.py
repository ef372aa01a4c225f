import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.relevance.records import Provenance
from replay.buffer import TrajectoryBuffer
from replay.statistics import HISTORY, PromptStats, PromptTable

from .build import rollout


def test_moving_accuracy_starts_at_the_first_outcome():
    table = PromptTable(3, ema=0.25)
    for correct, accuracy in ((8, 1.0), (0, 0.75)):
        table.update(1, correct, 8)
        assert table[1].accuracy == accuracy
    assert table[1].attempts == 2 and table[2].attempts == 0 and table.tried == 1
    assert table.accuracies(np.array([0, 1]), untried=0.5).tolist() == [0.5, 0.75] and table.accuracy_mean == 0.75


def test_failing_counts_back_from_the_newest_outcome():
    table = PromptTable(1)
    for correct in (0, 4, 1, 0):
        table.update(0, correct, 8)
    assert [table[0].failing(tau) for tau in (0.0, 0.125, 0.5)] == [1, 2, 4]


def test_outcome_that_cannot_be_is_refused():
    for correct, rollouts in ((0, 0), (9, 8), (-1, 8), (0, 256)):
        with pytest.raises(ValueError, match="prompt 0"):
            PromptTable(1, most=8).update(0, correct, rollouts)
    PromptTable(1, most=300).update(0, 0, 256)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 7), st.booleans()), max_size=60))
def test_table_is_what_a_list_of_records_would_be_and_survives_its_state(events):
    table, records = PromptTable(9, ema=0.3), [PromptStats() for _ in range(9)]
    for prompt, correct, guided in events:
        old, share = records[prompt], correct / 7
        accuracy = old.accuracy + 0.3 * (share - old.accuracy) if old.attempts else share
        outcomes = (*old.outcomes, (correct, 7))[-HISTORY:]
        records[prompt] = replace(old, attempts=old.attempts + 1, outcomes=outcomes, accuracy=accuracy)
        table.update(prompt, correct, 7)
        if guided:
            table.guided(prompt, solved=correct > 3, level=2)
            old = records[prompt]
            solved = old.solved + (correct > 3)
            records[prompt] = replace(old, guided=old.guided + 1, solved=solved, hint_level=2)
    again = PromptTable(9, ema=0.3)
    again.update(8, 1, 7)
    again.load_state_dict(table.state_dict())
    for found in (table, again):
        assert [found[prompt] for prompt in range(9)] == records
        tried = [record.accuracy for record in records if record.attempts]
        assert found.tried == len(tried) and found.guided_prompts == sum(r.guided > 0 for r in records)
        assert found.accuracy_mean == pytest.approx(sum(tried) / max(len(tried), 1))


def test_counts_stay_at_the_most_that_they_hold():
    table = PromptTable(1)
    for _ in range(260):
        table.guided(0, solved=True, level=1)
    assert (table[0].guided, table[0].solved) == (255, 255)


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
