"""A sender and several receivers in a group of their own: all get every bucket as it is announced, and nobody waits
for ever."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from agrl.errors import WeightSyncError
from agrl.transport.collective import CollectiveReceiver, CollectiveSender, Group, Meeting
from agrl.transport.parcel import TransferFailed, pack, unpack
from agrl.transport.staging import Staging

CPU = torch.device("cpu")
NAMED = [(f"p{i}", torch.randn(64, 16).to(torch.bfloat16 if i % 2 else torch.float32)) for i in range(9)]
LORA = [(f"m{i}.lora_{part}.weight", torch.randn(3, 8)) for i in range(300) for part in "AB"]  # a long list
BUCKET = 10_000


def free_address() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def met(world, timeout_s=20.0) -> list[Group]:
    first = Meeting(free_address(), 0, world, timeout_s)
    with ThreadPoolExecutor(world) as threads:
        return list(threads.map(lambda index: Group(first.member(index), CPU), range(world)))


def send(group, named=NAMED) -> int:
    return sum(1 for _ in pack(named, CollectiveSender(group, BUCKET), BUCKET))


def receive(group):
    """The weights, and the sizes of the buckets in which they came."""
    found, sizes, receiver = [], [], CollectiveReceiver(group)
    for number, parcel in enumerate(receiver.announced()):
        assert parcel.number == number
        sizes.append(len(parcel.entries))
        found += [(name, tensor.clone()) for name, tensor in unpack([parcel], receiver)]
    return found, sizes


def same(found, expected) -> bool:
    return [name for name, _ in found] == [name for name, _ in expected] and all(
        a.dtype == b.dtype and torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("rounds", [[NAMED, NAMED], [NAMED, LORA, []]])
def test_all_receivers_get_all_weights_in_order_and_again_by_the_same_group(rounds):
    groups = met(4)
    with ThreadPoolExecutor(4) as threads:
        for named in rounds:
            received = [threads.submit(receive, group) for group in groups[1:]]
            buckets = threads.submit(send, groups[0], named).result(30)
            for future in received:
                found, sizes = future.result(30)
                assert same(found, named) and len(sizes) == buckets and sum(sizes) == len(named)
            assert buckets > 2 or named is not NAMED


def test_receivers_that_come_late_and_are_slow_wait_for_nobody_to_tell_them():
    groups = met(3)

    def slowly(group):
        time.sleep(0.3)
        receiver = CollectiveReceiver(group)
        for parcel in receiver.announced():
            yield from unpack([parcel], receiver)
            time.sleep(0.05)

    with ThreadPoolExecutor(3) as threads:
        first, second = threads.submit(receive, groups[1]), threads.submit(lambda: list(slowly(groups[2])))
        send(groups[0])
        assert same(first.result(30)[0], NAMED) and same(second.result(30), NAMED)


def test_a_bit_that_flips_on_the_way_is_caught_by_weight_and_bucket(monkeypatch):
    groups = met(2)
    take = Staging.take

    def flip(staging):
        flat = take(staging)
        flat[len(flat) // 2] ^= 4  # after the learner has summed it up
        return flat

    monkeypatch.setattr(Staging, "take", flip)
    with ThreadPoolExecutor(2) as threads:
        sending = threads.submit(send, groups[0])
        receiver, buckets = CollectiveReceiver(groups[1]), 0
        for parcel in receiver.announced():
            with pytest.raises(WeightSyncError, match=rf"weight p\d arrived damaged .*bucket {parcel.number}\)"):
                list(unpack([parcel], receiver))
            buckets += 1
        assert sending.result(30) == buckets > 2  # whoever found one of them can still receive the others


def test_a_receiver_that_is_gone_ends_the_sender_by_name_at_once():
    groups = met(2)
    groups[1].abort()
    began = time.monotonic()
    with pytest.raises(TransferFailed, match=r"the broadcast of bucket \d failed on host .*member 0 of 2"):
        send(groups[0])
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_receiver_that_leaves_in_mid_broadcast_ends_it_for_all_that_it_stands_between(gone):
    groups = met(4, timeout_s=20.0)

    def leave(group):
        receiver = CollectiveReceiver(group)
        parcel = next(receiver.announced())
        receiver.receive([parcel])
        receiver.close()

    many = [(f"p{i}", torch.randn(2000)) for i in range(200)]  # more buckets than sockets take unread
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        told = {member: threads.submit(leave if member == gone else receive, groups[member]) for member in range(1, 4)}
        sent = threads.submit(send, groups[0], many)
        with pytest.raises(TransferFailed, match="member 0 of 4"):
            sent.result(30)
        for member in {1, 2, 3} - {gone}:
            with pytest.raises(TransferFailed, match=f"to receive bucket .* failed .*member {member} of 4"):
                told[member].result(30)
    assert time.monotonic() - began < 15


def test_a_sender_that_is_gone_ends_the_receivers():
    groups = met(3)
    with ThreadPoolExecutor(2) as threads:
        told = [threads.submit(receive, group) for group in groups[1:]]
        groups[0].abort()
        for future in told:
            with pytest.raises(TransferFailed, match="to receive bucket 0 failed"):
                future.result(30)


def test_a_receiver_that_hangs_ends_the_wait_of_the_others_within_the_limit():
    groups = met(3, timeout_s=1.0)
    began = time.monotonic()
    flat = torch.zeros(2**26, dtype=torch.uint8)  # more than a socket takes unread
    with pytest.raises(TransferFailed, match="host") as caught:
        groups[0].wait(groups[0].broadcast(flat, "x"), "the broadcast of bucket 0")
    assert time.monotonic() - began < 5
    assert isinstance(caught.value, WeightSyncError) and caught.value.hint
    with pytest.raises(TransferFailed, match="to receive bucket 0 failed"):
        groups[2].wait(groups[2].broadcast(flat.clone(), "x"), "to receive bucket 0")


def test_members_that_do_not_all_come_are_told_so():
    with pytest.raises(TransferFailed, match=r"the 2 members .* did not meet at 127.0.0.1:\d+ within 1 s"):
        Group(Meeting(free_address(), 0, 2, 1.0), CPU)
    with pytest.raises(TransferFailed, match=r"member 1 on host"):
        Group(Meeting(free_address(), 1, 2, 1.0), CPU)
