"""Preference pairs in a file come back as they were."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agrl.algorithms.batch import PreferencePair, TrainSequence
from agrl.data.pairs import load_pairs, save_pairs

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5)
FLOATS = st.floats(-100, 0, allow_nan=False)


@st.composite
def sequences(draw):
    response = draw(IDS)
    logprobs = draw(st.lists(st.floats(-50, 0, width=32), min_size=len(response), max_size=len(response)))
    return TrainSequence(np.array(draw(IDS), np.int32), np.array(response, np.int32), np.array(logprobs, np.float32))


@given(pairs=st.lists(st.builds(PreferencePair, sequences(), sequences(), FLOATS, FLOATS), max_size=4))
def test_pairs_come_back_bit_for_bit(tmp_path_factory, pairs):
    file = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    save_pairs(file, pairs)
    found = load_pairs(file)
    assert len(found) == len(pairs)
    for a, b in zip(pairs, found, strict=True):
        assert (a.reference_chosen, a.reference_rejected) == (b.reference_chosen, b.reference_rejected)
        for x, y in ((a.chosen, b.chosen), (a.rejected, b.rejected)):
            for name in ("prompt_ids", "response_ids", "rollout_logprobs"):
                assert getattr(x, name).dtype == getattr(y, name).dtype
                np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
