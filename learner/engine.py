"""The one file that knows DeepSpeed: a model under ZeRO 0 to 3 with caller-owned gradient accumulation."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from agrl.models.layout import Batch
from agrl.models.logprobs import PolicyModel
from agrl.models.memory import REDUCE_BUCKET
from agrl.models.paths import without_patterns
from learner.adapters import weights
from learner.reshard import reshard

CHECKPOINT_TAG = "engine"
OPERATORS = Path(sys.prefix) / "torch_extensions"
STALE_S = 300.0  # compiling takes under a minute
DTYPE_SECTION = {"bfloat16": "bf16", "float16": "fp16"}
BYTES_OF_A_WEIGHT = 16  # in a checkpoint, at most: itself, in float32, and Adam's two moments


def find_operators() -> None:
    """Keep the operator that DeepSpeed compiles in this Python environment, and forget builds that died.

    The usual cache is one for all environments of a user: each compiles it again after another, and a process that is
    killed while it compiles leaves a lock behind for which every later one waits, forever.
    """
    if not os.access(sys.prefix, os.W_OK):
        return
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(OPERATORS))
    for lock in OPERATORS.glob("*/lock"):
        if time.time() - lock.stat().st_mtime > STALE_S:
            lock.unlink(missing_ok=True)


def compile_operators() -> None:
    """Compile what DeepSpeed needs on the CPU, so that no run has to wait for it."""
    find_operators()
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)


def init_process_group(rank: int, world: int, address: str, timeout_s: float, one_host: bool = True) -> None:
    """Join the learner's process group at ``address`` ("host:port"); does nothing when this process already has one.

    Collectives of a training go through Gloo or NCCL. What DeepSpeed has beside them for CPUs, shared memory, serves
    its inference alone, and only where LOCAL_SIZE is the number of ranks. Nothing here sets that, because it takes 71
    MB of /dev/shm a rank that are never freed; ranks of ``one_host`` may be started with it.
    """
    from datetime import timedelta

    find_operators()
    import deepspeed

    host, _, port = address.rpartition(":")
    # LOCAL_RANK: Ray shows a process its own GPUs alone. MASTER_*: DeepSpeed names its shared memory by them.
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK="0", MASTER_ADDR=host, MASTER_PORT=port)
    if not one_host:  # or DeepSpeed would look for the memory of all ranks here, forever
        os.environ.pop("LOCAL_SIZE", None)
    if torch.distributed.is_initialized():  # by vLLM, when every service lives in this process: a group of one, as ours
        return
    deepspeed.init_distributed(
        dist_backend="nccl" if torch.cuda.is_available() else "gloo",
        init_method=f"tcp://{address}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout_s),
        auto_mpi_discovery=False,
        verbose=False,
    )


def _take_apart(policy: torch.nn.Module, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Shard the weights for ZeRO-3, one at a time from where they were loaded: no device ever holds the whole model.

    ``deepspeed.initialize`` does the same, after it has moved the whole model to the device.
    """
    import deepspeed

    for parameter in policy.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    deepspeed.zero.Init(module=policy, config_dict_or_path=config, dtype=dtype)
    for buffer in policy.buffers():
        buffer.data = buffer.data.to(torch.device(deepspeed.get_accelerator().current_device_name()))


def _shapes(policy: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[int, ...]]:
    """The trained parameters by name, in the order of the optimizer."""
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {names[id(parameter)]: tuple(getattr(parameter, "ds_shape", parameter.shape)) for parameter in trained}


class TrainingEngine:
    """Forward, backward, step, checkpoint and gathered weights of one data-parallel rank."""

    def __init__(
        self, lm: torch.nn.Module, zero_stage: int, dtype: str, lr: float, weight_decay: float, max_grad_norm: float
    ) -> None:
        import deepspeed

        self.zero_stage = zero_stage
        self.world = torch.distributed.get_world_size()
        self._own_norm: float | None = None
        policy = PolicyModel(lm)
        trained = [p for p in policy.parameters() if p.requires_grad]
        self._frozen = len(trained) < len(list(policy.parameters()))
        self.checkpoint_bytes = BYTES_OF_A_WEIGHT * sum(p.numel() for p in trained)  # or less, of one rank
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},  # norms and biases
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.99))
        # Without ZeRO and in float32 DeepSpeed clips but does not tell the norm: there we clip just before the update.
        own_clipping = zero_stage == 0 and dtype == "float32"
        if own_clipping:
            optimizer.register_step_pre_hook(lambda *_: self._clip(policy, max_grad_norm))
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # The learner decides what one optimizer step is: the number of micro-batches varies from step to step.
            "managed_gradient_accumulation": False,
            "gradient_clipping": 0.0 if own_clipping else max_grad_norm,
            "steps_per_print": 1 << 30,
            "zero_optimization": {
                "stage": zero_stage,
                "overlap_comm": False,  # its side stream is refused with caller-owned accumulation above stage 2
                # a buffer of this size is there from the first backward pass on, however little is trained
                "reduce_bucket_size": min(REDUCE_BUCKET, sum(p.numel() for p in trained)),
            },
            "zero_allow_untested_optimizer": True,
        }
        if dtype in DTYPE_SECTION:
            config[DTYPE_SECTION[dtype]] = {"enabled": True}
        if zero_stage == 3:
            _take_apart(policy, config, getattr(torch, dtype))
        self._shapes = _shapes(policy, optimizer)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(model=policy, optimizer=optimizer, config=config)
        if zero_stage == 0 and dtype in DTYPE_SECTION:
            # DeepSpeed has made a step without gradients here, and only here: Adam would count it among its steps
            optimizer.state.clear()
            self.optimizer.refresh_fp32_params()

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def lm(self) -> torch.nn.Module:
        return self.engine.module.lm

    def logprobs(
        self, batch: Batch, temperature: float, entropy_gradient: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (with gradient where enabled) and entropies of the response tokens, [tokens] each."""
        return self.engine(batch.to(self.device), temperature, entropy_gradient)

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradients of a scalar. ``step`` averages over ranks; scale by ``world`` for a sum."""
        self.engine.backward(loss)

    def step(self, lr: float) -> float:
        """Reduce, clip and apply the accumulated gradients at rate ``lr``; returns their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self._own_norm = None
        self.engine.step()
        norm = self.engine.get_global_grad_norm() if self._own_norm is None else self._own_norm
        return float(norm)

    def _clip(self, policy: torch.nn.Module, max_grad_norm: float) -> None:
        self._own_norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm))

    def full_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight whole, adapters merged, by its name in the module; in ZeRO-3 all ranks must iterate together.

        There a weight is to be used before the next one is asked for: it is gathered until then.
        """
        for weight in weights(self.lm):
            with self._gathered(weight.parts):
                yield weight.name, weight.merged()

    def adapters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Both factors of every low-rank update, as ``full_weights`` gives weights: NAME.lora_A.weight [rank, in] and
        NAME.lora_B.weight [out, rank], which has its scale in it."""
        for weight in weights(self.lm):
            if weight.adapted is not None:
                with self._gathered(weight.parts):
                    yield from weight.factors()

    def _gathered(self, parts: list[torch.nn.Parameter]) -> AbstractContextManager:
        if self.zero_stage < 3 or not parts:
            return nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters(parts)

    def save(self, folder: Path) -> None:
        """Write optimizer state and model, without what is frozen; every rank must call it."""
        self.engine.save_checkpoint(str(folder), tag=CHECKPOINT_TAG, exclude_frozen_parameters=self._frozen)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote. Raises FileNotFoundError naming the folder when it holds no such checkpoint."""
        with without_patterns(folder) as place:
            path, _ = self.engine.load_checkpoint(place, tag=CHECKPOINT_TAG, load_module_strict=not self._frozen)
        if path is None:
            raise FileNotFoundError(f"{folder} holds no learner checkpoint")

    def load_resharded(self, folder: Path, place: Path) -> None:
        """Restore what ``save`` of other ranks, or of another ZeRO stage, wrote, by way of ``place``, an empty folder
        that all ranks see. Equal up to rounding; every rank must call it. Raises ModelError where it is not of this
        model.
        """
        self.save(place)
        torch.distributed.barrier()
        rank = torch.distributed.get_rank()
        reshard(folder / CHECKPOINT_TAG, place / CHECKPOINT_TAG, rank, self._shapes)
        torch.distributed.barrier()
        self.load(place)
