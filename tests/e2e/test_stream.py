"""Requests that new weights find unfinished, on the real stack: whose tokens they are, and what the caches hold."""

from __future__ import annotations

import dataclasses
import time
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.generation import UNFINISHED, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from agrl.errors import ActorError
from agrl.models.build import TinyShape, make_tiny_model
from tests.e2e.test_rollout_actors import SETTINGS, SHAPE, TOLERANCE, disturb, given
from tests.reference import logprobs

TOKENS, PROMPT = 150, 70
SAMPLING = SamplingSettings(temperature=1.0, max_tokens=TOKENS)
PATIENCE_S = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_tiny_model(folder, ["a steel coffee grinder, not electric; red"] * 3, TinyShape(**SHAPE))
    disturb(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), 0.1).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def start(runtime, folder, tmp_path):
    """Starts a pool of one engine for a way to treat the unfinished."""
    pools = []

    def start(unfinished: str, actors: int = 1) -> RolloutPool:
        settings = dataclasses.replace(SETTINGS, unfinished=unfinished)
        pools.append(
            RolloutPool(runtime, folder, settings, actors=actors, timeout_s=120, log_dir=tmp_path, streams=True)
        )
        pools[-1].ready()
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def asked(count: int, n: int, seed: int = 0) -> list[GenerationRequest]:
    prompts = np.random.default_rng(seed).integers(2, 256, (count, PROMPT)).astype(np.int32)
    return [GenerationRequest(f"r{i}", prompt, n, seed=i) for i, prompt in enumerate(prompts)]


def begin(pool: RolloutPool, requests) -> SimpleQueue:
    """Ask, and wait until the engine has sampled some tokens of them."""
    sink: SimpleQueue = SimpleQueue()
    pool.stream.ask(requests, SAMPLING, sink)
    deadline = time.monotonic() + PATIENCE_S
    while not pool._pool.services[0].aside("gauges").result(PATIENCE_S)["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    return sink


@pytest.mark.parametrize("unfinished", UNFINISHED)
def test_every_token_is_of_the_version_that_its_span_names(runtime, folder, start, unfinished):
    """Recomputed, what follows is what the new weights say; kept, it is not, but new prompts get new weights."""
    pool, model = start(unfinished), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    old = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    requests = asked(6, n=4)
    sink = begin(pool, requests)
    disturb(model, 0.05)
    pool.broadcast(1, given(runtime, model))
    prompts, mixed, after = {r.request_id: r.prompt_ids for r in requests}, 0, []
    for _ in requests:
        generation, _actor = sink.get(timeout=PATIENCE_S)
        for sample in generation.samples:
            assert sum(n for _, n in sample.spans) == len(sample.ids) == len(sample.logprobs)
            assert [version for version, _ in sample.spans] in ([0], [1], [0, 1])
            first = dict(sample.spans).get(0, 0)
            prompt = prompts[generation.request_id]
            by_old, by_new = (logprobs(each, prompt, sample.ids) for each in (old, model))
            np.testing.assert_allclose(sample.logprobs[:first], by_old[:first], atol=TOLERANCE)
            mixed += 0 < first < len(sample.ids)
            after += list(np.abs(sample.logprobs[first:] - by_new[first:])) if first else []
    assert mixed, "the weights came too late: everything was finished"
    assert max(after) < TOLERANCE if unfinished == "recompute" else np.mean(after) > 10 * TOLERANCE
    for generation, _ in pool.generate(asked(6, n=1), SAMPLING):  # the same prompts: what was cached is of old weights
        sample = generation.samples[0]
        np.testing.assert_allclose(
            sample.logprobs, logprobs(model, prompts[generation.request_id], sample.ids), atol=TOLERANCE
        )


def test_a_cached_prompt_never_serves_new_weights_while_others_are_unfinished(runtime, folder, start):
    """New requests for prompts that are being answered under older weights share nothing with them."""
    pool, model = start("keep"), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    sink = begin(pool, asked(4, n=2))
    disturb(model, 0.05)
    pool.broadcast(1, given(runtime, model))
    again = [dataclasses.replace(request, seed=99) for request in asked(4, n=2)]
    for generation, _ in pool.generate(again, SAMPLING):
        prompt = again[int(generation.request_id[1:])].prompt_ids
        for sample in generation.samples:
            np.testing.assert_allclose(sample.logprobs, logprobs(model, prompt, sample.ids), atol=TOLERANCE)
    for _ in range(4):
        sink.get(timeout=PATIENCE_S)


def test_requests_of_several_askers_come_back_to_each_and_what_is_withdrawn_does_not(start):
    pool = start("recompute", actors=2)
    one, other = SimpleQueue(), SimpleQueue()
    names = pool.stream.ask(asked(6, n=2), SAMPLING, one)
    pool.stream.ask(asked(3, n=1, seed=5), SamplingSettings(0.0, 5, logprobs=False), other)
    pool.stream.withdraw(names[3:])
    assert sorted(one.get(timeout=PATIENCE_S)[0].request_id for _ in range(3)) == ["r0", "r1", "r2"]
    greedy = [other.get(timeout=PATIENCE_S)[0] for _ in range(3)]
    assert sorted(g.request_id for g in greedy) == ["r0", "r1", "r2"]
    assert all(len(g.samples) == 1 and len(g.samples[0].ids) <= 5 and not len(g.samples[0].logprobs) for g in greedy)
    assert sorted(g.request_id for g, _ in pool.generate(asked(5, n=1), SAMPLING)) == [f"r{i}" for i in range(5)]
    assert one.empty(), "what was withdrawn came back"
    pool.close()
    with pytest.raises(ActorError, match="stopped"):
        list(pool.generate(asked(1, n=1), SAMPLING))


def test_an_engine_that_dies_loses_nothing(start):
    pool, requests = start("recompute", actors=2), asked(12, n=2)
    sink = begin(pool, requests)
    pool._pool.services[1].kill()
    assert sorted(sink.get(timeout=PATIENCE_S)[0].request_id for _ in requests) == sorted(
        r.request_id for r in requests
    )
    assert pool.metrics()["actors/rollout_restarts"] == 1
