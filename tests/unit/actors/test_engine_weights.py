"""What the checksums of what workers hold tell, of one worker and of several that share a model; without vLLM."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.engine_weights import Loaded, WorkerWeights, check_adapters, check_held, none_missing, on_worker
from agrl.errors import WeightSyncError
from agrl.transport.checksum import MODULUS, bits
from agrl.transport.collective import CollectiveReceiver, CollectiveSender
from agrl.transport.parcel import TransferFailed, pack
from agrl.transport.staging import Staging
from tests.unit.transport.test_collective import met


def loaded(held: torch.Tensor, *sent: torch.Tensor, name: str = "layers.0.qkv.weight") -> Loaded:
    """A worker that has ``held`` of a parameter of which the ``sent`` are the parts."""
    return Loaded(set(), {name: tuple(bits(sent))}, {name: bits([held])[0]})


weights = st.integers(1, 30).map(lambda n: torch.randn(n, 4))


@given(weights, weights, st.integers(0, 31), st.data())
def test_one_bit_that_is_held_wrongly_is_caught_by_parameter_and_host(query, key, bit, data):
    held = torch.cat([query, key])
    check_held(3, [loaded(held, query, key)])
    flat = held.view(torch.int32).view(-1)
    flat[data.draw(st.integers(0, len(flat) - 1))] ^= -(2**31) if bit == 31 else 2**bit
    with pytest.raises(WeightSyncError, match=r"parameter layers.0.qkv.weight of version 3 was not loaded .* on host "):
        check_held(3, [loaded(held, query, key)])


def test_an_old_weight_and_one_that_was_loaded_in_part_are_caught():
    old, new = torch.randn(6, 4), torch.randn(6, 4)
    for held in (old, torch.cat([new[:3], old[3:]]), torch.cat([new[:3], new[:3]]), new + 1):
        with pytest.raises(WeightSyncError, match="was not loaded as it was sent"):
            check_held(1, [loaded(held, new)])


@given(st.sampled_from([2, 4]))
def test_workers_hold_their_shares_or_all_of_a_weight_or_the_same_few_heads(workers):
    query, key, value, norm = (torch.randn(rows, 3) for rows in (8, 2, 2, 5))
    shares = query.chunk(workers)
    heads = [(key.chunk(2)[i * 2 // workers], value.chunk(2)[i * 2 // workers]) for i in range(workers)]
    check_held(1, [loaded(torch.cat([q, *kv]), query, key, value) for q, kv in zip(shares, heads, strict=True)])
    check_held(1, [loaded(norm, norm) for _ in range(workers)])
    with pytest.raises(WeightSyncError, match="was not loaded as it was sent"):  # two have the share of one
        check_held(1, [loaded(q, query) for q in (shares[0], *shares[:-1])])


def test_a_parameter_without_a_weight_is_missing_on_whichever_worker_it_is():
    weight = torch.randn(2, 2)
    whole, without = loaded(weight, weight), Loaded({"lm_head.weight"}, {}, {})
    with pytest.raises(WeightSyncError, match=r"version 4: 1 are missing, such as lm_head.weight"):
        check_held(4, [whole, without])
    none_missing(4, set())


def test_low_rank_updates_that_the_layers_do_not_hold_are_caught():
    check_adapters(2, [(7, 7)])
    check_adapters(2, [(7, 3), (7, MODULUS - 1)])  # shares and copies in one sum cannot be compared
    with pytest.raises(
        WeightSyncError, match=r"low-rank updates of version 2 was not loaded .* is 00000003, .*00000007"
    ):
        check_adapters(2, [(7, 3)])


class Worker:
    """A vLLM worker of a group of two, without vLLM: it only keeps low-rank updates."""

    rank, device = 0, torch.device("cpu")

    def __init__(self, group):
        self.agrl_weights = WorkerWeights(self)
        self.agrl_weights._receivers["collective"] = CollectiveReceiver(group)

    def get_model(self):
        return SimpleNamespace()


def updates(named, bucket_bytes=64):
    """What a worker answers to a broadcast of low-rank updates, what it has then, and what the sender says."""
    groups = met(2)
    worker = Worker(groups[1])
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(lambda: len(list(pack(named, CollectiveSender(groups[0], 64), bucket_bytes))))
        answer = on_worker(worker, "receive", "collective")
        return answer, worker.agrl_weights._adapters, sending.result(30)


UPDATES = [(f"m{i}.lora_A.weight", torch.randn(2, 8)) for i in range(4)]


def test_a_worker_receives_low_rank_updates_as_they_are_announced():
    answer, held, buckets = updates(UPDATES)
    assert answer == (4, {name for name, _ in UPDATES}) and buckets == 4
    assert all(torch.equal(held[name], tensor) for name, tensor in UPDATES)


def test_a_worker_that_finds_a_damaged_weight_takes_the_rest_from_the_group_before_it_says_so(monkeypatch):
    take, taken = Staging.take, []

    def flip(staging):
        flat = take(staging)
        taken.append(flat)
        if len(taken) == 2:
            flat[3] ^= 1
        return flat

    monkeypatch.setattr(Staging, "take", flip)
    answer, held, buckets = updates(UPDATES)
    assert isinstance(answer, WeightSyncError) and not isinstance(answer, TransferFailed)
    assert "weight m1.lora_A.weight arrived damaged" in str(answer) and buckets == 4 and list(held) == [UPDATES[0][0]]
