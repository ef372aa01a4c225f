"""Weights from a real learner into real engines: every transport a CPU has, adapters alone, and engines that die."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from actors.generation import EngineSettings, GenerationRequest, SamplingSettings
from actors.rollout_pool import RolloutPool
from agrl.algorithms.batch import TrainSequence
from agrl.config.compose import load_config
from agrl.driver.services import learner_ranks
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.learners import LearnerGroup
from agrl.models.build import TinyShape, make_tiny_model
from learner.outgoing import Outgoing
from learner.rank import LearnerRank

GAP = 1e-4  # nats a token, fp32
SHAPE = TinyShape(vocab_size=300, hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128)
SAMPLING = SamplingSettings(max_tokens=12)


class SmallBuckets(LearnerRank):
    """Sends the tiny model in many buckets, and counts what it sends."""

    def start(self, settings):
        Outgoing.bucket_bytes = 40_000
        self.sent = {}
        return super().start(settings)

    def parcel(self):
        found = super().parcel()
        if found.number == 0:
            self.sent = {}
        self.sent |= {entry.name: entry.nbytes for entry in found.entries}
        return found

    def names_sent(self):
        return self.sent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    make_tiny_model(folder, [f"search: red grinder {i}\n" for i in range(50)], SHAPE)
    return str(folder)


@pytest.fixture
def start(runtime, model, tmp_path, monkeypatch):
    """Starts a learner and rollout actors by overrides; both end with the test."""
    monkeypatch.setattr(learner_ranks, "LearnerRank", SmallBuckets)
    started = []

    def begin(*overrides):
        config = load_config(["experiment=agrl_tiny", f"model.path={model}", "rollout.timeout_s=60", *overrides])
        settings = EngineSettings(
            dtype="float32",
            kv_cache_gib=0.05,
            max_model_len=256,
            max_concurrent=64,
            threads=1,
            tensor_parallel=config.rollout.tensor_parallel,
            lora_rank=config.model.lora_rank,
        )
        learner = LearnerGroup(runtime, config, tmp_path)
        pool = RolloutPool(
            runtime,
            model,
            settings,
            actors=config.rollout.actors,
            restarts=2,
            timeout_s=config.rollout.timeout_s,
            log_dir=tmp_path,
            transport=config.sync.transport.value,
        )
        started.extend([learner, pool])
        learner.setup()
        pool.ready()
        return learner, pool

    yield begin
    for service in started:
        service.close()


def largest_gap(learner, pool) -> float:
    """Nats a token by which an answer's log-probability differs between an engine and the learner, at most."""
    random = np.random.default_rng(0)
    prompts = [random.integers(2, 290, 70).astype(np.int32) for _ in range(2 * len(pool._pool))]
    asked = [GenerationRequest(str(i), prompt, 2, seed=i) for i, prompt in enumerate(prompts)]
    gaps = []
    for generation, _ in pool.generate(asked, SAMPLING):
        prompt = prompts[int(generation.request_id)]
        answers = [TrainSequence(prompt, sample.ids, sample.logprobs) for sample in generation.samples]
        for answer, found in zip(answers, learner.sequence_logprobs(answers), strict=True):
            gaps.append(abs(found - answer.rollout_logprobs.sum(dtype="float64")) / len(answer.response_ids))
    assert len(gaps) == 2 * len(asked)
    return max(gaps)


def learn(learner) -> None:
    random = np.random.default_rng(learner.version)
    draw = lambda n: random.integers(2, 290, n).astype(np.int32)  # noqa: E731
    unsampled = np.zeros(10, np.float32)
    learner.train_sft([TrainSequence(draw(20), draw(10), unsampled) for _ in range(8)], lr=1e-2)


def sent(learner) -> dict[str, int]:
    return learner.on_first_rank("names_sent")


def test_a_group_of_its_own_broadcasts_from_sharded_ranks_and_heals(start):
    learner, pool = start("sync.transport=collective", "learner.ranks=2", "learner.zero_stage=3", "rollout.actors=2")
    for _ in range(2):
        learn(learner)
        broadcast_weights(learner, pool)
        assert largest_gap(learner, pool) < GAP
    assert len(pool._sync._group) == 3
    os.kill(pool.info()[1]["pid"], signal.SIGKILL)
    time.sleep(0.5)
    learn(learner)
    broadcast_weights(learner, pool)  # the group breaks: the survivor and the new one get them singly
    assert largest_gap(learner, pool) < GAP
    assert pool.metrics()["actors/rollout_restarts"] == 1.0 and pool._sync._group == []
    learn(learner)
    broadcast_weights(learner, pool)  # by a new group
    assert largest_gap(learner, pool) < GAP and len(pool._sync._group) == 3
    assert [info["version"] for info in pool.info()] == [4, 4]


def test_of_low_rank_updates_the_adapters_alone_travel_and_are_merged_nowhere(start):
    learner, pool = start("model.lora_rank=3", "learner.ranks=2", "learner.zero_stage=3", "rollout.actors=1")
    broadcast_weights(learner, pool)
    first = largest_gap(learner, pool)
    for _ in range(2):
        learn(learner)
        broadcast_weights(learner, pool)
        assert largest_gap(learner, pool) < GAP
    assert first < GAP and {name.split(".lora_")[1] for name in sent(learner)} == {"A.weight", "B.weight"}
    # seven linear layers a block, of 64 x 64 to 128 x 64 numbers
    assert sum(sent(learner).values()) == 2 * 3 * 4 * (64 + 64 + 2 * (64 + 32) + 64 + 64 + 3 * (64 + 128))
    learn(learner)
    assert largest_gap(learner, pool) > 10 * GAP  # and what was not broadcast would show
