"""Weights survive the trip, whatever their type; buckets keep their limit, and a damaged weight is named."""

import dataclasses
import pickle
import weakref
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agrl.errors import WeightSyncError
from agrl.transport.checksum import MODULUS, bits
from agrl.transport.object_store import ObjectStoreReceiver, ObjectStoreSender
from agrl.transport.parcel import ALIGNMENT, Parcel, aligned, pack, unpack
from agrl.transport.staging import Arrivals, Staging, flat_bytes, split

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.float64]


def carried(named, sender=None, bucket_bytes=10**6):
    """Through pickle, as between processes."""
    parcels = pickle.loads(pickle.dumps(list(pack(named, sender or ObjectStoreSender(), bucket_bytes))))
    return [named for parcel in parcels for named in unpack([parcel], ObjectStoreReceiver())]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5), (7,), (), (2, 0)])
def test_a_tensor_comes_back_equal(dtype, shape):
    tensor = (torch.randn(shape) * 100).to(dtype)
    ((name, back),) = carried([("layer.weight", tensor)])
    assert name == "layer.weight" and back.dtype == dtype
    assert torch.equal(back, tensor)


def test_what_is_held_does_not_change_with_the_parameter_unless_it_is_said_to_last():
    for lasting in (False, True):
        parameter = torch.nn.Parameter(torch.ones(4))
        sender = ObjectStoreSender(lasting)
        kept = sender.hold(parameter)
        with torch.no_grad():
            parameter.zero_()
        assert kept.sum() == (0 if lasting else 4)


def test_a_transposed_tensor_and_read_only_bytes_are_fine():
    tensor = torch.arange(6.0).reshape(2, 3).T
    (parcel,) = pack([("t", tensor)], ObjectStoreSender(lasting=True))
    parcel.content[0].setflags(write=False)  # as they come out of Ray's object store
    assert torch.equal(dict(unpack([parcel], ObjectStoreReceiver()))["t"], tensor)


def test_bytes_that_do_not_fit_the_shape_are_refused_by_name():
    (parcel,) = pack([("w", torch.zeros(3))], ObjectStoreSender())
    short = dataclasses.replace(parcel, content=[parcel.content[0][:8]])
    with pytest.raises(WeightSyncError, match=r"weight w: 8 bytes arrived, float32\[3\] needs 12"):
        unpack([short], ObjectStoreReceiver())


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_flipped_bit_is_caught_by_the_weights_name(dtype):
    named = [(name, (torch.randn(70, 3) * 50).to(dtype)) for name in ("a", "b", "c")]
    (parcel,) = pack(named, ObjectStoreSender())
    parcel.content[1][100] ^= 16
    with pytest.raises(WeightSyncError, match=r"weight b arrived damaged on host .*bucket 0"):
        dict(unpack([parcel], ObjectStoreReceiver()))


sizes = st.lists(st.integers(0, 40), max_size=12)


@given(sizes, st.integers(1, 200))
def test_buckets_hold_everything_once_and_keep_their_limit(counts, limit):
    named = [(f"p{i}", torch.full((count,), float(i))) for i, count in enumerate(counts)]
    parcels = list(pack(named, ObjectStoreSender(), limit))
    assert [entry.name for parcel in parcels for entry in parcel.entries] == [name for name, _ in named]
    assert [parcel.number for parcel in parcels] == list(range(len(parcels)))
    for parcel in parcels:
        assert flat_bytes(parcel.entries) <= limit or len(parcel.entries) == 1
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(carried(named, None, limit), named, strict=True))


class Alive:
    """Bytes of the memory that is counted and not yet given back, and the most that there were."""

    def __init__(self):
        self.now = self.peak = 0
        self.seen = weakref.WeakSet()

    def count(self, tensor):
        storage = tensor.untyped_storage()
        if storage not in self.seen:
            self.seen.add(storage)
            self.add(storage.nbytes())
            weakref.finalize(storage, self.add, -storage.nbytes())
        return tensor

    def add(self, nbytes):
        self.now += nbytes
        self.peak = max(self.peak, self.now)


@pytest.mark.parametrize("make", [ObjectStoreSender, lambda: StagedSender(64 * 1024)])
def test_no_more_than_two_buckets_and_a_weight_are_alive(make):
    """Of a model 16 buckets large that is gathered weight by weight; each bucket is taken when the next is there."""
    alive, sender, bucket, weight = Alive(), make(), 64 * 1024, 16 * 1024
    hold = sender.hold
    sender.hold = lambda tensor: alive.count(hold(tensor))
    gathered = ((f"p{i}", alive.count(torch.full((weight // 4,), float(i)))) for i in range(64))
    under_way = deque(maxlen=1)
    for parcel in pack(gathered, sender, bucket):
        under_way.append(parcel)
    assert bucket < alive.peak <= 2 * bucket + weight


class StagedSender(ObjectStoreSender):
    """Holds in two buffers in turns, as the transports do that send from flat memory."""

    def __init__(self, capacity):
        self.staging = Staging(capacity, CPU)

    def hold(self, tensor):
        return self.staging.hold(tensor)

    def send(self, number, entries):
        flat = self.staging.take()
        return Parcel(number, entries, [tensor.view(-1).view(torch.uint8).numpy() for tensor in split(flat, entries)])


def test_buffers_take_turns_and_grow_for_a_large_weight():
    staging = Staging(64, CPU)
    small, large = torch.arange(3.0), torch.arange(100.0)
    staging.hold(small)
    first = staging.take()
    staging.hold(large)
    second = staging.take()
    assert torch.equal(first[:12].view(torch.float32), small) and torch.equal(second.view(torch.float32), large)
    kept = staging.hold(torch.ones(1, dtype=torch.bfloat16)), staging.hold(torch.full((), 7.0))
    assert kept[1].item() == 7.0 and first.data_ptr() == kept[0].data_ptr()  # the first buffer again
    assert kept[1].data_ptr() - kept[0].data_ptr() == ALIGNMENT == aligned(2)


def test_memory_of_what_arrived_is_filled_again_only_when_nothing_refers_to_it():
    arrivals = Arrivals(CPU)
    first = arrivals.get(1000)
    begin, kept = first.data_ptr(), first[16:20].view(torch.float32)  # as a layer keeps a weight until it is whole
    kept.fill_(3.0)
    del first
    second = arrivals.get(1000).fill_(0)
    assert second.data_ptr() != begin and kept.item() == 3.0
    del kept
    assert arrivals.get(900).data_ptr() == begin
    assert len(arrivals.get(5000)) == 5000


numbers = st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=60)


@given(numbers, st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int8]), st.integers(0, 60))
def test_a_checksum_adds_up_over_parts_in_any_order(values, dtype, cut):
    whole = torch.tensor([v if dtype != torch.int8 else v % 100 for v in values]).to(dtype)
    (expected,) = bits([whole])
    assert sum(bits([whole[:cut], whole[cut:]])) % MODULUS == expected
    assert bits([whole.flip(0)]) == [expected]
    assert 0 <= expected < MODULUS


def test_a_checksum_is_of_the_bits_and_holds_for_transposed_and_padded_weights():
    tensor = torch.randn(6, 4)
    padded = torch.zeros(9, 4)
    padded[:6] = tensor
    assert bits([tensor]) == bits([tensor.T.contiguous()]) == bits([padded])
    assert bits([torch.tensor([0.0])]) != bits([torch.tensor([-0.0])])
    expected = int(tensor.numpy().view(np.uint32).astype(np.uint64).sum()) % MODULUS
    assert bits([tensor]) == [expected] and bits([]) == []
