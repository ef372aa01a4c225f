"""The engine that benchmarks/scale.py puts in the place of a real one: gives what was asked, after a model's time."""

import time
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest

from actors.generation import EngineSettings, GenerationRequest, Pace, SamplingSettings
from benchmarks.simulated import Model, SimulatedEngine


@pytest.mark.parametrize("room", [4, 64])
def test_a_simulated_engine_takes_as_long_as_its_steps(room):
    model = Model(response=50)
    engine = SimulatedEngine(model, EngineSettings(max_concurrent=room))
    requests = [GenerationRequest(str(i), np.zeros(100, np.int32), n=8, seed=i) for i in range(4)]
    answers, sampling = [engine.advance(1, requests, SamplingSettings(max_tokens=80), Pace(), [])], SamplingSettings()
    while answers[-1].generations or answers[-1].tokens:
        answers.append(engine.advance(1, [], sampling, Pace(), []))
    found = [generation for answer in answers for generation in answer.generations]
    assert sorted(one.request_id for one in found) == ["0", "1", "2", "3"]
    lengths = [len(sample.ids) for one in found for sample in one.samples]
    assert len(lengths) == 32 and max(lengths) <= 80
    assert sum(answer.tokens for answer in answers) == sum(lengths)
    seconds = sum(answer.seconds for answer in answers)
    steps = sum(lengths) / min(room, 32)  # at least: all places taken all the time
    assert seconds >= steps * model.decode_s + sum(lengths) * model.decode_sequence_s


def test_an_engine_that_waits_answers_when_its_model_would_have_or_when_its_batch_ends():
    model = Model(decode_s=0.01, decode_sequence_s=0.0, prefill=1e9, response=20, waits=True)
    engine = SimulatedEngine(model, EngineSettings(max_concurrent=4))
    request = GenerationRequest("0", np.zeros(10, np.int32), n=1, seed=1)
    began = time.monotonic()
    progress = engine.advance(1, [request], SamplingSettings(max_tokens=30), Pace(0.0, 60.0), [])
    assert time.monotonic() - began >= progress.seconds * 0.99 == pytest.approx(0.01 * progress.tokens * 0.99)
    slow = SimulatedEngine(replace(model, decode_s=60.0), EngineSettings(max_concurrent=4))
    Timer(0.05, slow.end_batch, [1]).start()
    assert slow.advance(1, [request], SamplingSettings(max_tokens=30), Pace(), []).seconds < 60.0
