"""What is packed for Ray comes out as it was; large arrays are not copied."""

import pickle

import numpy as np
import pytest
from ray import cloudpickle

from actors.generation import Generation, Sampled
from actors.ray_packing import ALONE, dumps, pack
from actors.ray_results import call_arguments, opened


def through_ray(value):
    """As Ray packs and unpacks it; with the buffers that stay by themselves."""
    buffers = []
    packed = cloudpickle.dumps(pack(value), 5, buffer_callback=buffers.append)
    return pickle.loads(packed, buffers=buffers), buffers


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", b"bytes", [1, {"a": (2, None)}]])
def test_plain_values_come_out_as_they_were(value):
    assert through_ray(value)[0] == value


def test_small_arrays_are_packed_along_and_large_ones_are_not_copied():
    sample = Sampled(np.arange(5, dtype=np.int32), np.zeros(5, np.float32), "stop", "Tier: 4")
    large = np.arange(ALONE, dtype=np.uint8)
    (generation, found), buffers = through_ray((Generation("7", [sample], 3), large))
    assert generation.samples[0].ids.tolist() == [0, 1, 2, 3, 4] and generation.version == 3
    assert np.shares_memory(found, large)
    assert sum(np.shares_memory(np.frombuffer(buffer, np.uint8), large) for buffer in buffers) == 1
    assert len(buffers) == 2  # all that is not large is one


def test_what_no_module_has_is_packed_as_well():
    class Local:
        value = 3

    assert through_ray(Local())[0].value == 3
    assert pickle.loads(dumps(lambda: 4))() == 4


def test_what_a_script_defines_is_packed_whole(monkeypatch):
    made = type("OfScript", (), {"__module__": "__main__", "value": 5})
    monkeypatch.setattr("__main__.OfScript", made, raising=False)
    packed = dumps(made())
    monkeypatch.delattr("__main__.OfScript")
    assert pickle.loads(packed).value == 5


def test_a_call_keeps_the_places_of_its_arguments():
    packed, *results = call_arguments("add", (1, "two"), {"times": 3})
    assert results == [] and opened(packed, []) == ("add", [1, "two"], {"times": 3})
