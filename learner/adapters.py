"""The one file that knows peft: low-rank updates (LoRA, arXiv 2106.09685) beside frozen linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from agrl.models.layout import Batch

BASE = ".base_layer"


def add_adapters(lm: nn.Module, rank: int, alpha: float) -> None:
    """Freeze ``lm`` and give every linear layer but the output layer a trained update alpha / rank B A, in place.

    B starts as zero, so the model is at first the one that it was. No dropout: it would make the ratio of new to old
    probability random.
    """
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0), lm)


@dataclass(frozen=True)
class Weight:
    """One weight of the model without adapters, or a buffer that is saved with it, by its ``name`` in the module.

    ``adapted``: peft's layer, where it has an update.
    """

    name: str
    tensor: torch.Tensor
    adapted: nn.Module | None = None

    @property
    def parts(self) -> list[nn.Parameter]:
        """What it is made of: its own parameter, and those of its update."""
        own = [self.tensor] if isinstance(self.tensor, nn.Parameter) else []
        if self.adapted is None:
            return own
        return [*own, *(p for name, p in self.adapted.named_parameters() if ".lora_" in f".{name}")]

    @torch.no_grad()
    def merged(self) -> torch.Tensor:
        """The weight with its update, in its own precision; a view of the parameter where there is none."""
        base = self.tensor.detach()
        if self.adapted is None:
            return base
        (key,) = self.adapted.active_adapters
        return (base.float() + self.adapted.get_delta_weight(key).float()).to(base.dtype)


def weights(lm: nn.Module) -> Iterator[Weight]:
    """What a checkpoint of ``lm`` holds, as if it had no adapters; what is tied, once."""
    modules, seen = dict(lm.named_modules()), set()
    for name, tensor in lm.state_dict(keep_vars=True).items():
        if ".lora_" in name or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        layer, _, rest = name.partition(f"{BASE}.")
        yield Weight(name.replace(BASE, ""), tensor, modules[layer] if rest == "weight" else None)


@dataclass
class WithoutAdapters:
    """The start model: a training engine's own, its adapters switched off meanwhile."""

    engine: Any

    def __call__(self, batch: Batch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        with without_adapters(self.engine.lm):
            return self.engine.logprobs(batch, temperature)


@contextmanager
def without_adapters(lm: nn.Module) -> Iterator[None]:
    """The model as it was before ``add_adapters``."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
