"""Weights leave a rank in buckets; ranks that send nothing take the same steps, and a failure ends no rank."""

import pytest
import torch

from agrl.transport.collective import Meeting
from agrl.transport.object_store import ObjectStoreReceiver, ObjectStoreSender
from agrl.transport.parcel import TransferFailed, unpack
from learner.outgoing import Outgoing


class Sharded:
    """An engine whose weights are whole only while they are asked for; counts who gathers what."""

    device, lm = torch.device("cpu"), torch.nn.Identity()

    def __init__(self, zero_stage):
        self.zero_stage, self.gathered, self.closed = zero_stage, [], 0

    def full_weights(self):
        try:
            for i in range(5):
                self.gathered.append(i)
                yield f"p{i}", torch.full((8,), float(i))
        finally:
            self.closed += 1

    def adapters(self):
        yield "p.lora_A.weight", torch.ones(2, 3)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch):
    monkeypatch.setattr(Outgoing, "bucket_bytes", 64)  # two weights


def buckets(outgoing):
    found = []
    while outgoing.next():
        found.append(outgoing.parcel)
    return found


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_ranks_gather_in_step_where_weights_are_sharded_and_the_first_one_sends(zero_stage):
    engines = [Sharded(zero_stage) for _ in range(2)]
    first, second = (Outgoing(engine, rank) for rank, engine in enumerate(engines))
    for outgoing in (first, second):
        outgoing.begin("object_store", adapters=False)
    sent = []
    while first.next():
        second.next()
        sent += unpack([first.parcel], ObjectStoreReceiver())
        assert engines[1].gathered == (engines[0].gathered if zero_stage == 3 else [])
    assert {name: tensor.tolist() for name, tensor in sent} == {f"p{i}": [float(i)] * 8 for i in range(5)}
    assert second.parcel is None or second.parcel.entries == ()


def test_a_pass_that_broke_off_lets_go_of_what_it_had_gathered_and_can_be_made_again():
    engine = Sharded(3)
    outgoing = Outgoing(engine, 0)
    outgoing.begin("object_store", adapters=False)
    outgoing.next()
    assert engine.closed == 0
    outgoing.begin("object_store", adapters=False)
    assert engine.closed == 1
    assert [len(parcel.entries) for parcel in buckets(outgoing)] == [2, 2, 1]


class Cut(ObjectStoreSender):
    """Of a group that breaks with its second bucket."""

    def send(self, number, entries):
        if number == 1:
            raise TransferFailed("the broadcast of bucket 0 failed")
        return super().send(number, entries)


def test_all_at_once_gathers_to_the_end_on_every_rank_even_if_nobody_takes_it_any_more():
    engines = [Sharded(3) for _ in range(2)]
    first, second = (Outgoing(engine, rank) for rank, engine in enumerate(engines))
    assert [first.send("object_store", adapters=False), second.send("object_store", adapters=False)] == [3, 3]
    first.begin("object_store", adapters=False)
    first.next()
    first._senders["object_store"] = Cut()
    found = first.send("object_store", adapters=False)  # after a pass that broke off, too
    assert isinstance(found, TransferFailed)
    assert engines[0].gathered[-5:] == [0, 1, 2, 3, 4] and engines[0].closed == 3


def test_adapters_alone():
    outgoing = Outgoing(Sharded(0), 0)
    outgoing.begin("object_store", adapters=True)
    assert [entry.name for parcel in buckets(outgoing) for entry in parcel.entries] == ["p.lora_A.weight"]


def test_a_group_that_does_not_meet_is_returned_and_not_raised():
    failure = Outgoing(Sharded(0), 0).open("collective", Meeting("127.0.0.1:1", 1, 2, 0.2))
    assert isinstance(failure, TransferFailed) and "did not meet at 127.0.0.1:1" in str(failure)


def test_another_run_sends_its_own_weights_to_those_who_have_met():
    outgoing, engine = Outgoing(Sharded(0), 0), Sharded(3)
    outgoing._senders = {"collective": (met := ObjectStoreSender(True)), "object_store": ObjectStoreSender(True)}
    outgoing.begin("collective", adapters=False)
    outgoing.next()
    outgoing.serve(engine)
    assert outgoing.parcel is None and outgoing.send("collective", adapters=False) == 3
    assert engine.gathered == [0, 1, 2, 3, 4] and outgoing._senders == {"collective": met}
