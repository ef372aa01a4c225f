"""Rollout actors for real: Ray, vLLM and a tiny random model."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.engine import RolloutEngine
from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from agrl.errors import DataError, ModelError, WeightSyncError
from agrl.models.architecture import read_architecture
from agrl.models.build import TinyShape, make_tiny_model
from agrl.models.engine_memory import CPU_BLOCK, cache_blocks
from agrl.models.tokens import decode_response, load_tokenizer
from learner.export import as_published
from tests.e2e.probed_engine import ProbedEngine
from tests.e2e.small_world import published_model
from tests.given_weights import GivenWeights, corrupt
from tests.reference import logprobs

TOLERANCE = 1e-4  # nats, fp32
SETTINGS = EngineSettings(dtype="float32", kv_cache_gib=0.05, max_model_len=256, max_concurrent=64, threads=1)
SHAPE = {"vocab_size": 300, "hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 128}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a tied and an untied model, with weights large enough that a wrong one shows."""
    folders = {}
    for tied in (True, False):
        folder = tmp_path_factory.mktemp("models") / f"tied-{tied}"
        make_tiny_model(folder, ["a steel coffee grinder, not electric; red"] * 3, TinyShape(tied=tied, **SHAPE))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        disturb(model, 0.1).save_pretrained(folder)
        folders[tied] = str(folder)
    return folders


def make_pool(runtime, model: str, log_dir, actors: int = 1, engine: type = RolloutEngine) -> RolloutPool:
    pool = RolloutPool(
        runtime, model, SETTINGS, actors=actors, restarts=2, timeout_s=120, log_dir=log_dir, engine=engine
    )
    pool.ready()
    return pool


@pytest.fixture(scope="module")
def tied_pool(runtime, models, tmp_path_factory):
    pool = make_pool(runtime, models[True], tmp_path_factory.mktemp("logs"), actors=2, engine=ProbedEngine)
    yield pool
    pool.close()


def disturb(model, scale: float):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def given(runtime, model, **how) -> GivenWeights:
    """The model's weights as they are when they are read, in several buckets."""
    return GivenWeights(runtime, lambda: as_published(model, model.named_parameters()), **how)


def requests(count: int, n: int = 1, length: int = 70, seed: int = 0) -> list[GenerationRequest]:
    """Prompts longer than two blocks of the prefix cache, so that a stale one would show."""
    random = np.random.default_rng(seed)
    prompts = random.integers(2, 256, (count, length)).astype(np.int32)
    return [GenerationRequest(f"r{i}", prompt, n, seed=i) for i, prompt in enumerate(prompts)]


def largest_gap(model, asked: list[GenerationRequest], generations, temperature: float) -> float:
    """Largest difference between the engine's log-probabilities and the Hugging Face model's, nats."""
    prompts = {request.request_id: request.prompt_ids for request in asked}
    return max(
        float(np.abs(logprobs(model, prompts[generation.request_id], sample.ids, temperature) - sample.logprobs).max())
        for generation in generations
        for sample in generation.samples
    )


def generate(pool: RolloutPool, asked, sampling) -> list:
    return [generation for generation, _ in pool.generate(asked, sampling)]


def check_before_and_after_new_weights(runtime, pool: RolloutPool, folder: str, version: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked, sampling = requests(6, n=3), SamplingSettings(temperature=1.3, max_tokens=24)
    generations = generate(pool, asked, sampling)
    assert sorted(g.request_id for g in generations) == [f"r{i}" for i in range(6)]
    assert largest_gap(model, asked, generations, 1.3) < TOLERANCE
    old = disturb(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), 0.0)
    for step in (1, 2):
        disturb(model, 0.05)
        pool.broadcast(version + step, given(runtime, model))
        generations = generate(pool, asked, sampling)
        assert {g.version for g in generations} == {version + step}
        assert largest_gap(model, asked, generations, 1.3) < TOLERANCE
        assert largest_gap(old, asked, generations, 1.3) > 100 * TOLERANCE  # the new weights do differ


def test_rollout_logprobs_are_the_models_before_and_after_new_weights_tied(runtime, models, tied_pool):
    check_before_and_after_new_weights(runtime, tied_pool, models[True], version=0)


def test_samples_are_whole_and_can_be_repeated(models, tied_pool):
    asked, sampling = requests(16, n=2), SamplingSettings(max_tokens=120)
    first, again = generate(tied_pool, asked, sampling), generate(tied_pool, asked, sampling)
    tokenizer = load_tokenizer(models[True])
    stopped = 0
    by_id = {generation.request_id: generation for generation in again}
    for generation in first:
        assert len(generation.samples) == 2
        assert not np.array_equal(generation.samples[0].ids, generation.samples[1].ids)
        for sample, repeated in zip(generation.samples, by_id[generation.request_id].samples, strict=True):
            np.testing.assert_array_equal(sample.ids, repeated.ids)
            assert sample.ids.dtype == np.int32 and sample.logprobs.dtype == np.float32
            assert sample.text == decode_response(tokenizer, sample.ids.tolist())
            assert (sample.ids[-1] == tokenizer.eos_token_id) == (sample.finish_reason == "stop")
            assert tokenizer.eos_token not in sample.text
            assert sample.finish_reason == "stop" or len(sample.ids) == 120
            stopped += sample.finish_reason == "stop"
    assert stopped


def test_a_prompt_is_computed_once_for_its_group(tied_pool, monkeypatch):
    monkeypatch.setattr(tied_pool, "_free", False)  # the second time the same engines get the same prompts
    tied_pool.metrics()
    asked = requests(5, n=8, length=70, seed=1)
    generate(tied_pool, asked, SamplingSettings(max_tokens=8))
    found = tied_pool.metrics()
    # blocks of 32 tokens: 64 of 70 are there for all but the first of eight
    assert found["rollout/prefix_cache_hits"] == pytest.approx(7 / 8 * 64 / 70)
    assert found["rollout/engine_seconds"] > 0 and found["rollout/tokens_per_s"] > 0
    generate(tied_pool, asked, SamplingSettings(max_tokens=8))
    assert tied_pool.metrics()["rollout/prefix_cache_hits"] == pytest.approx(64 / 70)


def test_more_prompt_tokens_than_one_batch_holds(tied_pool):
    asked = requests(270, length=70)  # 9,450 tokens an actor: vLLM on a CPU fails where it splits a seeded prompt
    generations = generate(tied_pool, asked, SamplingSettings(max_tokens=2, logprobs=False))
    assert len(generations) == 270
    assert all(len(generation.samples[0].logprobs) == 0 for generation in generations)


def test_temperature_zero_takes_the_likeliest_token(runtime, models, tied_pool):
    model = AutoModelForCausalLM.from_pretrained(models[True], dtype=torch.float32)
    tied_pool.broadcast(7, given(runtime, model))
    asked = requests(2)
    for generation in generate(tied_pool, asked, SamplingSettings(temperature=0.0, max_tokens=1)):
        prompt = next(r.prompt_ids for r in asked if r.request_id == generation.request_id)
        likeliest = model(torch.tensor(prompt, dtype=torch.long)[None]).logits[0, -1].argmax()
        assert generation.samples[0].ids.tolist() == [int(likeliest)]


def test_a_prompt_without_room_for_a_response_is_named(tied_pool):
    with pytest.raises(DataError, match="request r0: its prompt has 256 tokens, an engine takes 1 to 255"):
        generate(tied_pool, requests(1, length=256), SamplingSettings())


@pytest.mark.parametrize("family", ["gpt2", "experts"])
def test_new_weights_of_published_folders(runtime, tmp_path, family):
    """Whose files have other names than the model's modules, and more than they."""
    folder = published_model(tmp_path / "model", family)
    pool = make_pool(runtime, folder, tmp_path)
    try:
        check_before_and_after_new_weights(runtime, pool, folder, version=0)
    finally:
        pool.close()


def without_embedding(parcel):
    kept = [i for i, entry in enumerate(parcel.entries) if "embed" not in entry.name]
    entries, content = tuple(parcel.entries[i] for i in kept), [parcel.content[i] for i in kept]
    return dataclasses.replace(parcel, entries=entries, content=content)


def test_missing_and_damaged_weights_are_refused_by_name(runtime, models, tied_pool):
    model = AutoModelForCausalLM.from_pretrained(models[True], dtype=torch.float32)
    with pytest.raises(WeightSyncError, match=r"weights of version 8: 1 are missing, such as model.embed_tokens"):
        tied_pool.broadcast(8, given(runtime, model, bucket_bytes=2**20, spoil=without_embedding))
    name = "model.layers.1.self_attn.v_proj.weight"
    with pytest.raises(WeightSyncError, match=rf"rollout-0: weight {name} arrived damaged on host \S+ \(\d"):
        tied_pool.broadcast(9, given(runtime, model, spoil=corrupt(name)))
    tied_pool.broadcast(10, given(runtime, model))  # and the next whole one is taken


@pytest.mark.parametrize(
    ("weight", "held_in"),
    [
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),  # a parameter as vLLM keeps it
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"),  # a part, packed into a kernel
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_a_weight_that_arrived_well_and_was_loaded_wrongly_is_named(runtime, models, tied_pool, weight, held_in):
    model = AutoModelForCausalLM.from_pretrained(models[True], dtype=torch.float32)
    service = tied_pool._pool.services[1]
    service.call("load_wrongly", weight).result(60.0)
    found = rf"rollout-1: parameter {held_in} of version 11 was not loaded as it was sent on host \S+ "
    with pytest.raises(WeightSyncError, match=found):
        tied_pool.broadcast(11, given(runtime, model))
    service.call("load_wrongly", "").result(60.0)
    tied_pool.broadcast(12, given(runtime, model))


def test_a_rollout_actor_killed_while_it_generates_is_replaced_with_current_weights(runtime, models, tied_pool):
    model = disturb(AutoModelForCausalLM.from_pretrained(models[True], dtype=torch.float32), 0.07)
    tied_pool.broadcast(20, given(runtime, model))
    pids = [info["pid"] for info in tied_pool.info()]
    asked, generations = requests(32), []
    for generation, actor in tied_pool.generate(asked, SamplingSettings(max_tokens=180)):
        if not generations:
            os.kill(pids[1 - actor], signal.SIGKILL)
        generations.append(generation)
    assert sorted(g.request_id for g in generations) == sorted(r.request_id for r in asked)
    assert {g.version for g in generations} == {20}
    assert largest_gap(model, asked, generations, 1.0) < TOLERANCE
    assert tied_pool.metrics()["actors/rollout_restarts"] == 1.0
    assert [info["version"] for info in tied_pool.info()] == [20, 20]
    asked = requests(4, seed=2)
    served = list(tied_pool.generate(asked, SamplingSettings(max_tokens=9)))
    assert {actor for _, actor in served} == {0, 1}  # the new one, too
    assert largest_gap(model, asked, [generation for generation, _ in served], 1.0) < TOLERANCE


def test_the_kv_cache_has_as_many_blocks_as_are_foreseen(models, tied_pool):
    blocks, tokens = tied_pool._pool.services[0].call("cache_size").result(60.0)
    foreseen = cache_blocks(read_architecture(models[True]), int(SETTINGS.kv_cache_gib * 2**30), CPU_BLOCK, 1, 4)
    assert (blocks, tokens) == (foreseen, CPU_BLOCK)


def test_untied_model_and_weights_while_requests_run(runtime, models, tmp_path):
    pool = make_pool(runtime, models[False], tmp_path, engine=ProbedEngine)
    try:
        check_before_and_after_new_weights(runtime, pool, models[False], version=0)
        model = AutoModelForCausalLM.from_pretrained(models[False], dtype=torch.float32)
        service = pool._pool.services[0]
        parcels = [parcel for (parcel,) in given(runtime, model).parcels("object_store", adapters=False)]
        refusal = service.call("load_during_generation", requests(12), *parcels).result(60.0)
        assert "the prefix cache could not be reset" in refusal
        pool.broadcast(30, given(runtime, model))  # what was running has been dropped
        assert largest_gap(model, requests(2), generate(pool, requests(2), SamplingSettings(max_tokens=9)), 1.0) < 1e-4
    finally:
        pool.close()


def test_a_model_that_cannot_be_loaded_is_named(runtime, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        make_pool(runtime, str(tmp_path / "nowhere"), tmp_path)


def test_an_engine_in_two_parts_samples_as_one_takes_weights_and_leaves_nothing(runtime, models, tied_pool, tmp_path):
    settings = dataclasses.replace(SETTINGS, tensor_parallel=2)
    pool = RolloutPool(runtime, models[True], settings, restarts=0, timeout_s=120, log_dir=tmp_path)
    try:
        pool.ready()
        model = disturb(AutoModelForCausalLM.from_pretrained(models[True], dtype=torch.float32), 0.05)
        asked, sampling = requests(6, n=3), SamplingSettings(temperature=1.3, max_tokens=24)
        for whole in (tied_pool, pool):
            whole.broadcast(40, given(runtime, model))
        one, two = (sorted(generate(p, asked, sampling), key=lambda g: g.request_id) for p in (tied_pool, pool))
        assert largest_gap(model, asked, two, 1.3) < TOLERANCE
        for a, b in zip(one, two, strict=True):
            assert [list(sample.ids) for sample in a.samples] == [list(sample.ids) for sample in b.samples]
        parts = psutil.Process(pool.info()[0]["pid"]).children(recursive=True)
        assert sum("Worker_TP" in part.name() for part in parts) == 2
    finally:
        pool.close()
    _, alive = psutil.wait_procs(parts, timeout=10)
    assert not [part for part in alive if part.status() != psutil.STATUS_ZOMBIE]
