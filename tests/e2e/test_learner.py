"""The learner on real DeepSpeed and Ray: one update is the same however it is split, and survives a checkpoint."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

from agrl.algorithms.batch import TrainSequence
from agrl.config.compose import load_config
from agrl.config.schema import Packing
from agrl.driver.services import learner_ranks
from agrl.driver.services.learner_weights import LearnerWeights
from agrl.driver.services.learners import LearnerGroup
from agrl.errors import DivergenceError, LearnerError, WeightSyncError
from agrl.models import logprobs
from agrl.models.build import TinyShape, load_model, make_tiny_model
from agrl.relevance.records import Provenance
from agrl.transport.object_store import ObjectStoreReceiver
from agrl.transport.parcel import unpack
from learner.rank import LearnerRank
from tests.e2e.small_world import published_model

TEXTS = [f"search: red grinder {i}\ntitle: crimson mill {i}\n" for i in range(50)]
SHAPE = TinyShape(vocab_size=300, hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_tiny_model(path, TEXTS, SHAPE, seed=1)
    return str(path)


@pytest.fixture(scope="module")
def start(runtime, tmp_path_factory):
    """Begins a run of a configuration, on ranks that stay for the next test unless they are to end with this one.

    Returns the group, and what it says when it is set up.
    """
    staying, logs = {}, tmp_path_factory.mktemp("logs")

    def begin(config, ends=False):
        config.sync.check = False  # log-probabilities are made up
        group = staying.pop(config.learner.ranks, None)
        begun = group is None
        if begun:
            group = LearnerGroup(runtime, config, logs)
        if not ends:
            staying[config.learner.ranks] = group
        return group, group.setup() if begun else group.restart(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner_ranks, "LearnerRank", SmallChunks)
        yield begin
    for group in staying.values():
        group.close()


def settings(model_path, lora_rank=0, **learner):
    config = load_config(["experiment=agrl_tiny", f"model.path={model_path}", f"model.lora_rank={lora_rank}"])
    config.learner = replace(config.learner, lr=1e-3, threads=1, timeout_s=120, **learner)
    return config


def sequences(n=24, seed=0, version=0):
    generator = np.random.default_rng(seed)
    draw = lambda low, high: generator.integers(2, 290, generator.integers(low, high)).astype(np.int32)  # noqa: E731
    found, prompts = [], [draw(1, 30) for _ in range(1 + n // 4)]
    for i in range(n):
        response, prompt = draw(1, 12), prompts[i // 4]
        provenance = (Provenance.ON_POLICY, Provenance.ON_POLICY, Provenance.EXPERT, Provenance.TRANSFER)[i % 4]
        logprobs = np.full(len(response), -5.7, np.float32)
        found.append(TrainSequence(prompt, response, logprobs, float(generator.normal()), provenance, version, 0))
    return found


def trained(start, model_path, steps=2, **learner) -> tuple[dict, dict]:
    """Weights and the last metrics after ``steps`` batches; among them ``notice``: what the group said at its start."""
    group, notice = start(settings(model_path, **learner))
    for seed in range(steps):
        metrics = group.train_policy(sequences(seed=seed), lr=1e-3)
    return sent_by(group), metrics | {"notice": notice}


def sent_by(group) -> dict:
    """The weights as an engine on a CPU receives them."""
    found, receiver = {}, ObjectStoreReceiver()
    for parcels in LearnerWeights(group).parcels("object_store", adapters=False):
        found |= unpack([parcel.result() for parcel in parcels], receiver)
    return {name: tensor.clone() for name, tensor in found.items()}


class SmallChunks(LearnerRank):
    """In ZeRO 3 its logits come in many chunks, of which ranks have different numbers."""

    usual = logprobs.LOGIT_ELEMENTS

    def start(self, settings):
        logprobs.LOGIT_ELEMENTS = 300 * 8 if settings.zero_stage == 3 else self.usual
        return super().start(settings)


@pytest.fixture(scope="module")
def plain(start, model_path):
    return trained(start, model_path, optimizer_steps_per_batch=2, packing=Packing.padded)


@pytest.mark.parametrize(
    ("ranks", "zero_stage", "micro_batch_tokens", "packing"),
    [
        (1, 0, 230, Packing.padded),
        (1, 0, 230, Packing.packed),
        (1, 0, 16384, Packing.shared),
        (2, 0, 16384, Packing.padded),
        (2, 2, 230, Packing.shared),
        (2, 3, 300, Packing.shared),
    ],
)
def test_an_update_does_not_depend_on_how_the_batch_is_split(
    start, model_path, plain, ranks, zero_stage, micro_batch_tokens, packing
):
    split = {"ranks": ranks, "zero_stage": zero_stage, "micro_batch_tokens": micro_batch_tokens, "packing": packing}
    check_equal(trained(start, model_path, optimizer_steps_per_batch=2, **split), plain, model_path)


def test_in_low_precision_adam_counts_its_steps_the_same_in_every_stage(start, model_path):
    found = []
    for zero_stage in (0, 1):
        config = settings(model_path, zero_stage=zero_stage)
        config.model.dtype = "bfloat16"
        group, _ = start(config)
        found.append([group.train_policy(sequences(seed=seed), lr=1e-3)["grad_norm"] for seed in range(3)])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def check_equal(found, expected, model_path, untrained=()):
    (weights, metrics), (expected_weights, expected_metrics) = found, expected
    start = load_model(model_path, "float32").state_dict()
    assert weights.keys() == expected_weights.keys()
    for name, tensor in weights.items():
        moved = (expected_weights[name] - start[name]).abs().max()
        if any(part in name for part in untrained):
            assert moved == 0 == (tensor - start[name]).abs().max(), name
            continue
        assert moved > 1e-4, f"{name} was not trained, so comparing it shows nothing"
        # Adam divides by the gradient's own size, so where that is near 0 a rounding error is magnified
        off = (tensor - expected_weights[name]).abs()
        assert off.mean() < 1e-3 * moved and off.max() < 0.1 * moved, name
    for name in ("loss/total", "policy/entropy", "policy/ratio_mean", "grad_norm", "tokens/trained"):
        assert metrics[name] == pytest.approx(expected_metrics[name], rel=2e-3, abs=1e-5), name


def test_a_model_with_a_sliding_window_is_packed_whole_and_a_line_says_so(start, model_path, tmp_path):
    folder = tmp_path / "mistral"
    shutil.copytree(model_path, folder)  # for its tokenizer
    torch.manual_seed(0)
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    tiny = load_model(model_path, "float32").config
    config = MistralConfig(**{n: getattr(tiny, n) for n in names}, intermediate_size=64, sliding_window=8)
    MistralForCausalLM(config).save_pretrained(folder)
    split = {"micro_batch_tokens": 90, "optimizer_steps_per_batch": 2}
    packed, padded = (
        trained(start, str(folder), packing=packing, **split) for packing in (Packing.shared, Packing.padded)
    )
    notice = packed[1]["notice"]
    assert "learner.packing=packed" in notice and "it cannot share prompts" in notice and "sliding_window" in notice
    assert padded[1]["notice"] == ""
    check_equal(packed, padded, str(folder))


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_low_rank_updates_are_the_same_however_they_are_split(start, model_path, zero_stage):
    lora = {"lora_rank": 2, "kl_coef": 0.1, "optimizer_steps_per_batch": 2}
    plain = trained(start, model_path, packing=Packing.padded, steps=3, **lora)
    split = trained(start, model_path, ranks=2, zero_stage=zero_stage, micro_batch_tokens=300, steps=3, **lora)
    check_equal(split, plain, model_path, untrained=("embed_tokens", "norm"))
    before = load_model(model_path, "float32").state_dict()
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.linalg.matrix_rank(split[0][name] - before[name], atol=1e-6) == 2
    assert plain[1]["loss/kl"] > 0  # the start model, under the adapters, is another one by now


@pytest.mark.parametrize(("zero_stage", "lora_rank"), [(2, 0), (2, 2), (3, 2)])
def test_a_checkpoint_restores_model_and_optimizer(start, model_path, tmp_path, zero_stage, lora_rank):
    group, _ = start(settings(model_path, ranks=2, zero_stage=zero_stage, lora_rank=lora_rank))
    group.train_policy(sequences(seed=0), lr=1e-3)
    checkpoint = tmp_path / "a [v2] of *"  # DeepSpeed looks for files by a pattern made of the path
    checkpoint.mkdir()
    group.save(checkpoint)
    group.train_policy(sequences(seed=1), lr=1e-3)
    expected = sent_by(group)
    group.load(checkpoint, version=1)
    group.train_policy(sequences(seed=1), lr=1e-3)  # would differ had Adam's moments not come back
    for name, tensor in sent_by(group).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-7)
    assert group.version == 2
    group.export(tmp_path / "exported")
    exported = load_model(str(tmp_path / "exported"), "float32").state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(exported[name], tensor, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("zero_stage", "lora_rank"), [(2, 0), (3, 2)])
def test_a_checkpoint_goes_on_with_other_ranks_and_stages(start, model_path, tmp_path, zero_stage, lora_rank):
    group, _ = start(settings(model_path, ranks=2, zero_stage=zero_stage, lora_rank=lora_rank))
    group.train_policy(sequences(seed=0), lr=1e-3)
    written_by, checkpoint, forgetful = group.sharding, tmp_path / "step-000001", tmp_path / "forgetful"
    checkpoint.mkdir()
    group.save(checkpoint)
    shutil.copytree(checkpoint, forgetful)
    for file in forgetful.glob("engine/*optim_states.pt"):
        content = torch.load(file, weights_only=False)
        own = content["optimizer_state_dict"]
        for state in own["base_optimizer_state" if zero_stage == 2 else "optimizer_state_dict"]["state"].values():
            state["exp_avg"].zero_()
        torch.save(content, file)
    group.train_policy(sequences(seed=1), lr=1e-3)
    expected = sent_by(group)

    def off(checkpoint, ranks, stage):
        other, _ = start(settings(model_path, ranks=ranks, zero_stage=stage, lora_rank=lora_rank))
        other.load(checkpoint, 1, written_by)
        other.train_policy(sequences(seed=1), lr=1e-3)
        return max((tensor - expected[name]).abs().max() for name, tensor in sent_by(other).items())

    for ranks, stage in [(1, 0), (1, 1), (2, 3), (2, 2), (2, 0)]:
        assert off(checkpoint, ranks, stage) < 1e-5, (ranks, stage)
    assert off(forgetful, 1, 1) > 1e-4, "what comes of Adam's moments would show"
    assert {path.name for path in tmp_path.iterdir()} == {"step-000001", "forgetful"}


@pytest.mark.parametrize(("family", "zero_stage", "lora_rank"), [("gpt2", 3, 2), ("experts", 2, 0)])
def test_a_published_model_is_exported_as_it_is_broadcast(start, tmp_path, family, zero_stage, lora_rank):
    folder = published_model(tmp_path / "model", family)
    group, _ = start(settings(folder, ranks=2, zero_stage=zero_stage, lora_rank=lora_rank))
    group.train_sft(sequences(), lr=1e-2)
    sent = sent_by(group)
    group.export(tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    assert exported.keys() == sent.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in sent.items())
    before, after = (load_model(path, "float32").state_dict() for path in (folder, str(tmp_path / "exported")))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed >= {name for name in before if "attn" in name and name.endswith("proj.weight")}
    if family == "gpt2":
        assert json.loads((tmp_path / "exported" / "config.json").read_text())["resid_pdrop"] == 0.1


def test_weights_that_were_not_sampled_from_are_refused_before_any_update(start, model_path):
    group, _ = start(settings(model_path), ends=True)
    group.config.sync.check = True
    with pytest.raises(WeightSyncError, match="rollout actor 0 does not sample"):
        group.train_policy(sequences(version=group.version), lr=1e-3)  # logprobs of -5.7 are not this model's


def test_a_loss_that_is_not_finite_stops_the_run_by_name(start, model_path):
    group, _ = start(settings(model_path), ends=True)
    batch = sequences()
    batch[3].advantage = float("nan")
    with pytest.raises(DivergenceError, match="loss is not finite on learner rank 0"):
        group.train_policy(batch, lr=1e-3)


def test_a_rank_that_dies_ends_a_group_that_may_not_heal_by_name(start, model_path):
    group, _ = start(settings(model_path, ranks=2, restarts=0), ends=True)
    group.ranks[1].kill()
    with pytest.raises(LearnerError, match="learner-1"):
        group.train_policy(sequences(), lr=1e-3)


class ToldToShareMemory(LearnerRank):
    """As by a launcher that counts the ranks of its host."""

    def setup(self, *where):
        os.environ["LOCAL_SIZE"] = str(self.world)
        return super().setup(*where)

    def shared_sum(self) -> tuple[list[float], list[str]]:
        """A sum over the ranks through DeepSpeed's shared memory, and the files that hold this group's."""
        import deepspeed

        numbers = torch.full((4,), self.rank + 1.0)
        deepspeed.comm.inference_all_reduce(numbers)
        files = list(Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{os.environ['MASTER_PORT']}_*"))
        torch.distributed.barrier()
        if self.rank == 0:
            for file in files:
                file.unlink()  # DeepSpeed does not
        return numbers.tolist(), sorted(file.name[-1] for file in files)

    def hang(self) -> None:
        if self.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        torch.distributed.barrier()


def test_two_ranks_of_one_host_may_share_memory_and_one_that_hangs_is_named(runtime, model_path, tmp_path, monkeypatch):
    monkeypatch.setattr(learner_ranks, "LearnerRank", ToldToShareMemory)
    config = settings(model_path, ranks=2)
    group = LearnerGroup(runtime, config, tmp_path)
    group.setup()
    assert group.on_all_ranks("shared_sum") == [([3.0] * 4, ["0", "1"])] * 2
    config.learner.timeout_s = 10
    with pytest.raises(LearnerError, match=r"learner-1.*: no answer for learner.timeout_s=10 s \(hang\)") as caught:
        group.on_all_ranks("hang")
    assert re.search(r"learner-0.* in barrier waits for the others", str(caught.value))
