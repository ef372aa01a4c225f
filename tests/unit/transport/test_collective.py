"""A sender and several receivers in a group of their own: all get every bucket, and nobody waits for ever."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from agrl.errors import WeightSyncError
from agrl.transport.collective import CollectiveReceiver, CollectiveSender, Group, Meeting
from agrl.transport.parcel import TransferFailed, pack, unpack

CPU = torch.device("cpu")
NAMED = [(f"p{i}", torch.randn(64, 16).to(torch.bfloat16 if i % 2 else torch.float32)) for i in range(9)]
BUCKET = 10_000


def free_address() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def met(world, timeout_s=20.0) -> list[Group]:
    first = Meeting(free_address(), 0, world, timeout_s)
    with ThreadPoolExecutor(world) as threads:
        return list(threads.map(lambda index: Group(first.member(index), CPU), range(world)))


def send(group, tell):
    """Tells each receiver of each parcel, as the driver does."""
    for parcel in pack(NAMED, CollectiveSender(group, BUCKET), BUCKET):
        for queue in tell:
            queue.append(parcel)


def receive(group, queue, buckets):
    found, receiver = [], CollectiveReceiver(group)
    for number in range(buckets):
        while len(queue) <= number:
            time.sleep(0.001)
        found += unpack([queue[number]], receiver)
    return found


def test_all_receivers_get_all_weights_and_again_by_the_same_group():
    groups = met(4)
    buckets = len(list(pack(NAMED, CollectiveSender(met(1)[0], BUCKET), BUCKET)))
    assert buckets > 2
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            told = [[], [], []]
            received = [
                threads.submit(receive, group, queue, buckets) for group, queue in zip(groups[1:], told, strict=True)
            ]
            threads.submit(send, groups[0], told).result(30)
            for future in received:
                for (name, tensor), (expected_name, expected) in zip(future.result(30), NAMED, strict=True):
                    assert name == expected_name and torch.equal(tensor, expected)


def test_a_receiver_that_is_gone_ends_the_sender_by_name_at_once():
    groups = met(2)
    groups[1].abort()
    began = time.monotonic()
    with pytest.raises(TransferFailed, match=r"the broadcast of bucket \d failed on host .*member 0 of 2"):
        for _ in range(100):  # what is small enough is sent before anybody notices
            send(groups[0], [])
    assert time.monotonic() - began < 10


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
