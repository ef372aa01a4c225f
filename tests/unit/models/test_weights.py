"""Weights survive the trip as bytes, whatever their type."""

import pickle

import numpy as np
import pytest
import torch

from agrl.errors import WeightSyncError
from agrl.models.weights import PackedTensor, buckets, pack, unpack


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (2, 0)])
def test_a_tensor_comes_back_equal(dtype, shape):
    tensor = (torch.randn(shape) * 100).to(dtype)
    name, back = unpack(pickle.loads(pickle.dumps(pack("layer.weight", tensor))))
    assert name == "layer.weight" and back.dtype == dtype
    assert torch.equal(back, tensor)


def test_what_is_packed_does_not_change_with_the_parameter():
    parameter = torch.nn.Parameter(torch.ones(4))
    packed = pack("p", parameter)
    with torch.no_grad():
        parameter.zero_()
    assert torch.equal(unpack(packed)[1], torch.ones(4))


def test_a_transposed_tensor_and_read_only_bytes_are_fine():
    tensor = torch.arange(6.0).reshape(2, 3).T
    packed = pack("t", tensor)
    packed.data.setflags(write=False)  # as they come out of Ray's object store
    assert torch.equal(unpack(packed)[1], tensor)


def test_bytes_that_do_not_fit_the_shape_are_refused_by_name():
    with pytest.raises(WeightSyncError, match=r"weight w: 8 bytes arrived, float32\[3\] needs 12"):
        unpack(PackedTensor("w", "float32", (3,), np.zeros(8, np.uint8)))


def test_buckets_hold_everything_once_and_keep_their_limit():
    parameters = [(f"p{i}", torch.full((size,), float(i))) for i, size in enumerate([10, 10, 100, 1, 1])]
    packed = list(buckets(parameters, bucket_bytes=80))
    assert [[p.name for p in bucket] for bucket in packed] == [["p0", "p1"], ["p2"], ["p3", "p4"]]
    for bucket in packed:
        for p in bucket:
            assert torch.equal(unpack(p)[1], dict(parameters)[p.name])
