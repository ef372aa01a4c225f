"""What a learner rank is foreseen to take, against what torch takes for the real engine, phase by phase of a step."""

import json
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from transformers import Qwen3Config

from agrl.config.compose import load_config
from agrl.config.schema import Config
from agrl.models import memory
from agrl.models.architecture import Architecture, architecture_of
from agrl.models.memory import checkpoint_bytes, learner_memory
from tests.numerics.memory_of_rank import BUCKET, GROUP, RESPONSE, SHAPE, TOKENS

CASES = [*((stage, "bfloat16", 0) for stage in (0, 1, 2, 3)), (0, "bfloat16", 8)]
WRITTEN = [*CASES, (1, "float32", 0)]  # of which a checkpoint is written
HEADERS = 100_000  # bytes of the names of weights and the like, in what a rank writes
# Of what is foreseen, by stage: a peak lies between. ZeRO 1 and 2 broadcast without the gradients and their buffer.
LEAST, MOST = {0: 0.85, 1: 0.75, 2: 0.75, 3: 0.85}, 1.01


def measure(ranks: int, cases: list) -> list[list[dict]]:
    """Of each rank, what it says of each case."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    words = [sys.executable, "-m", "tests.numerics.memory_of_rank"]
    started = [
        subprocess.Popen(
            [*words, str(rank), str(ranks), address, json.dumps(cases)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        said = [process.communicate(timeout=400) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * ranks, said[0][1][-2000:]
    return [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out, _ in said]


def foresee(stage: int, dtype: str, lora_rank: int, ranks: int, monkeypatch) -> memory.LearnerMemory:
    monkeypatch.setattr(memory, "BUCKET_BYTES", BUCKET)
    monkeypatch.setattr(memory, "LOGIT_ELEMENTS", RESPONSE * GROUP * SHAPE["vocab_size"])  # only responses have any
    return learner_memory(*configured(stage, dtype, lora_rank), ranks)


def configured(stage: int, dtype: str, lora_rank: int) -> tuple[Architecture, Config]:
    config = load_config(["experiment=agrl_tiny", "model.path=none", "learner.kl_coef=0"])
    config.model = replace(config.model, dtype=dtype, lora_rank=lora_rank)
    config.learner = replace(config.learner, zero_stage=stage, micro_batch_tokens=TOKENS)
    return architecture_of(Qwen3Config(**SHAPE), "small", lora_rank), config


def check_written(case: tuple, ranks: list[dict]) -> None:
    """What each rank wrote is what was foreseen, but for headers."""
    expected = checkpoint_bytes(*configured(*case), len(ranks))
    for size, found in zip(expected, ranks, strict=True):
        assert size <= found["checkpoint"]["end"] <= size + HEADERS


def between_the_passes(foreseen: memory.LearnerMemory, stage: int) -> int:
    """What is there all the time, but for the buffer for gradients that ZeRO 2 lets go after each backward pass."""
    return foreseen.steady - (foreseen.buckets if stage == 2 else 0)


@pytest.fixture(scope="module")
def measured():
    return dict(zip(WRITTEN, measure(1, WRITTEN)[0], strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_takes_what_is_foreseen(measured, monkeypatch, case):
    stage, dtype, lora_rank = case
    foreseen = foresee(stage, dtype, lora_rank, 1, monkeypatch)
    found = measured[case]
    least, steady = LEAST[stage], between_the_passes(foreseen, stage)
    assert 0.98 * steady <= found["backward 1 1"]["end"] <= MOST * steady
    peaks = {
        "activations": max(found[f"{half} 1 1"]["peak"] for half in ("forward", "backward")),
        "update": found["update 1"]["peak"],
        "broadcast": found["broadcast"]["peak"],
    }
    for part, peak in peaks.items():
        expected = foreseen.steady + getattr(foreseen, part)
        assert least * expected <= peak <= MOST * expected, (part, peak, foreseen.parts())
    assert least * foreseen.peak <= max(peaks.values()) <= MOST * foreseen.peak


@pytest.mark.parametrize("case", WRITTEN, ids=str)
def test_a_checkpoint_is_as_large_as_foreseen(measured, case):
    check_written(case, [measured[case]])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_each_of_two_ranks_holds_what_is_foreseen_between_the_passes_and_writes_its_part(monkeypatch, stage):
    steady = between_the_passes(foresee(stage, "bfloat16", 0, 2, monkeypatch), stage)
    found = [of_rank[0] for of_rank in measure(2, [(stage, "bfloat16", 0)])]
    for each in found:
        assert each["backward 1 1"]["end"] == pytest.approx(steady, rel=0.01)
    check_written((stage, "bfloat16", 0), found)
