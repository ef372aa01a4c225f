"""The engine that benchmarks/scale.py puts in the place of a real one: gives what was asked, after a model's time."""

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
