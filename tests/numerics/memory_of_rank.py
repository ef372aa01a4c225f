"""A learner rank whose memory is written down as torch takes it: the bytes of every phase of a step, a line a case.

python -m tests.numerics.memory_of_rank RANK RANKS ADDRESS CASES    CASES: [[zero_stage, dtype, lora_rank], ...] as JSON
"""

import gc
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import Qwen3Config, Qwen3ForCausalLM

from agrl.models.adapters import add_adapters
from agrl.models.layout import share_batch
from agrl.models.shared_prompt import share_prompts
from agrl.transport.parcel import Parcel, Sender
from agrl.transport.staging import Staging
from learner.engine import TrainingEngine, init_process_group
from learner.outgoing import Outgoing

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 768,
    "tie_word_embeddings": True,
}
PROMPT, RESPONSE, GROUP = 192, 32, 4
TOKENS = PROMPT + RESPONSE * GROUP
BUCKET = 2**20


class Memory:
    """The bytes that torch has taken and not given back, from the first allocation on."""

    def __enter__(self):
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._profile.__enter__()
        self._phases, self._moments = [], []
        return self

    def __exit__(self, *error):
        self._profile.__exit__(*error)
        events = self._profile.profiler.kineto_results.events()
        found = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        self._times = np.array([when for when, _ in found])
        self._levels = np.concatenate([[0], np.cumsum([size for _, size in found])])

    @contextmanager
    def phase(self, name):
        gc.collect()
        begin = time.time_ns()
        yield
        gc.collect()
        self._phases.append((name, begin, time.time_ns()))

    def phases(self) -> dict[str, dict[str, int]]:
        """Name -> the most bytes during it, and those at its end."""
        found = {}
        for name, begin, end in self._phases:
            first, last = np.searchsorted(self._times, [begin, end])
            found[name] = {"peak": int(self._levels[first : last + 1].max()), "end": int(self._levels[last])}
        return found


class Tensors:
    """The bytes of all tensors that there are at the end of each phase, each storage once; no peaks.

    Of several ranks: Gloo lets go of what it has added up in threads of its own, and the profiler does not see those.
    """

    def __enter__(self):
        self._phases = {}
        return self

    def __exit__(self, *error):
        pass

    @contextmanager
    def phase(self, name):
        yield
        gc.collect()
        found = {}
        for tensor in [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]:
            for each in (tensor, tensor.grad if tensor.is_leaf else None):
                if each is not None:
                    storage = each.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
        self._phases[name] = {"end": sum(found.values())}

    def phases(self) -> dict[str, dict[str, int]]:
        return self._phases


class Held(Sender):
    """Buckets that go nowhere: the second stays until the third is there, as one that is on its way."""

    def __init__(self):
        self._staging = Staging(BUCKET, torch.device("cpu"))

    def hold(self, tensor):
        return self._staging.hold(tensor)

    def send(self, number, entries):
        return Parcel(number, entries, self._staging.take())


def measure(memory: Memory | Tensors, rank: int, stage: int, dtype: str, lora_rank: int) -> dict[str, dict[str, int]]:
    random = np.random.default_rng(0)
    draw = lambda n: random.integers(0, SHAPE["vocab_size"], n).astype(np.int32)  # noqa: E731
    with memory as found:
        with found.phase("load"):
            torch.manual_seed(0)
            lm = Qwen3ForCausalLM(Qwen3Config(**SHAPE)).to(getattr(torch, dtype))
            assert share_prompts(lm) == ""
            if lora_rank:
                add_adapters(lm, lora_rank, 32.0)
            lm.train()
        with found.phase("start"):
            engine = TrainingEngine(lm, stage, dtype, 1e-3, 0.0, 1.0)
        for step in range(2):  # Adam's moments are there after the first
            for micro in range(2):
                prompt = draw(PROMPT)
                batch = share_batch([prompt] * GROUP, [draw(RESPONSE) for _ in range(GROUP)])
                with found.phase(f"forward {step} {micro}"):
                    logprobs, _ = engine.logprobs(batch, 1.0)
                with found.phase(f"backward {step} {micro}"):
                    engine.backward(-logprobs.mean())
                    del logprobs
            with found.phase(f"update {step}"):
                engine.step(1e-3)
        outgoing = Outgoing(engine, rank)
        outgoing.bucket_bytes, outgoing._senders = BUCKET, {"held": Held()}
        with found.phase("broadcast"):
            outgoing.begin("held", adapters=lora_rank > 0)
            while outgoing.next():
                pass
        written = written_by(engine)
        del engine, outgoing, lm
        gc.collect()
    return found.phases() | {"checkpoint": {"end": written}}


def written_by(engine: TrainingEngine) -> int:
    """The bytes of this rank's part of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def main(rank: int, ranks: int, address: str, cases: list) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if ranks == 1:  # a group that leaves all as it is: Gloo's threads are not seen by the profiler
        torch.distributed.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    init_process_group(rank, ranks, address, 300.0)
    gc.freeze()  # what was imported need not be walked in every phase
    for case in cases:
        print(json.dumps(measure(Memory() if ranks == 1 else Tensors(), rank, *case)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
