"""What the network carries: rings of ZeRO, weights by transport, and nothing where nobody else is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.config.compose import load_config
from agrl.models.traffic import step_traffic
from tests.unit.models.test_memory import LARGE

CONFIG = load_config(["experiment=agrl_tiny", "model.path=none", "model.dtype=bfloat16"])
ADAPTED = replace(LARGE, lora_rank=16, adapters=40_000_000)
BYTES = 2 * LARGE.parameters


def run(transport="object_store", lora_rank=0, **learner):
    learner = {"micro_batch_tokens": 10**9, "optimizer_steps_per_batch": 1} | learner
    return replace(
        CONFIG,
        sync=replace(CONFIG.sync, transport=transport),
        model=replace(CONFIG.model, lora_rank=lora_rank),
        learner=replace(CONFIG.learner, **learner),
    )


@pytest.mark.parametrize(("stage", "gradients", "gathers"), [(0, 2, 0), (1, 2, 1), (2, 2, 1), (3, 1, 3)])
def test_volumes_of_one_pass_and_update_are_those_of_zero(stage, gradients, gathers):
    """arXiv 1910.02054, section 7: in weights a rank; with gradients added up everywhere and one gather to send."""
    found = step_traffic(LARGE, run(zero_stage=stage), 4, 1)
    assert found.gradients == pytest.approx(0.75 * gradients * BYTES)
    assert found.gathers == pytest.approx(0.75 * gathers * BYTES)


@given(st.integers(0, 3), st.integers(1, 64), st.integers(1, 8))
def test_one_rank_sends_nothing_to_others_and_more_passes_never_less(stage, ranks, updates):
    one = step_traffic(LARGE, run(zero_stage=stage, optimizer_steps_per_batch=updates), 1, 1)
    assert one.per_rank == 0 and one.link == one.weights + one.rollouts
    many = step_traffic(LARGE, run(zero_stage=stage, optimizer_steps_per_batch=updates), ranks, 1)
    more = step_traffic(LARGE, run(zero_stage=stage, optimizer_steps_per_batch=2 * updates), ranks, 1)
    assert more.per_rank >= many.per_rank


def test_weights_go_once_to_each_host_of_engines_by_a_chain_or_from_one():
    store, chain, shared = (
        step_traffic(LARGE, run(transport), 1, 8, engine_hosts=4) for transport in ("object_store", "collective", "ipc")
    )
    assert store.weights == chain.weights == 4 * BYTES and shared.weights == 0
    assert store.weights_out == 4 * BYTES and chain.weights_out == BYTES
    assert step_traffic(LARGE, run(), 1, 8, engine_hosts=0).weights == 0


def test_of_low_rank_updates_the_adapters_alone_travel():
    found = step_traffic(ADAPTED, run(lora_rank=16), 4, 2)
    assert found.weights == 2 * 40_000_000 and found.gradients == 0.75 * 2 * 2 * 40_000_000


def test_rings_of_one_host_do_not_leave_it():
    near, far = (step_traffic(LARGE, run(), 8, 1, learner_hosts=n) for n in (1, 2))
    assert near.per_rank == far.per_rank > 0
    assert far.link - near.link >= near.per_rank
