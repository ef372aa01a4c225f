"""A batch in columns is the batch: every sequence comes out as it went in, also after a journey."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.batch import TrainSequence
from agrl.algorithms.columns import Columns
from agrl.relevance.records import Provenance

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=6).map(lambda ids: np.array(ids, np.int32))
LOGPROBS = st.lists(st.floats(-30, 0, width=32), max_size=6).map(lambda values: np.array(values, np.float32))


@st.composite
def groups(draw):
    prompt = draw(IDS)
    return [
        TrainSequence(
            prompt,
            draw(IDS),
            draw(LOGPROBS),
            draw(st.floats(allow_nan=False)),
            draw(st.sampled_from(Provenance)),
            draw(st.integers(-1, 9)),
            draw(st.integers(-1, 9)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


@given(st.lists(groups(), max_size=4))
def test_sequences_come_out_as_they_went_in(batch):
    sequences = [sequence for group in batch for sequence in group]
    columns = pickle.loads(pickle.dumps(Columns(sequences)))
    assert len(columns) == len(sequences)
    for found, expected in zip(columns, sequences, strict=True):
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), value)
            assert type(getattr(found, name)) is type(value)
        assert (found.response_ids.dtype, found.rollout_logprobs.dtype) == (np.int32, np.float32)


def test_a_shared_prompt_travels_once():
    prompt, response = np.arange(10_000, dtype=np.int32), np.zeros(3, np.int32)
    columns = Columns([TrainSequence(prompt, response, np.zeros(3, np.float32)) for _ in range(8)])
    assert len(pickle.dumps(columns)) < 2 * prompt.nbytes
    with pytest.raises(IndexError):
        columns[8]
