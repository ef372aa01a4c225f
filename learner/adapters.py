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
    """One weight of the model without adapters, by its Hugging Face ``name``.

    ``parts``: the parameter alone, or with the A [rank, in] and B [out, rank] that are added to it ``scale`` times.
    """

    name: str
    parts: list[nn.Parameter]
    scale: float = 0.0

    def merged(self) -> torch.Tensor:
        """The weight with its update, in its own precision; a view of the parameter where there is none."""
        base = self.parts[0].detach()
        if len(self.parts) == 1:
            return base
        a, b = (part.detach().float() for part in self.parts[1:])
        return (base.float() + self.scale * b @ a).to(base.dtype)


def weights(lm: nn.Module) -> Iterator[Weight]:
    """All weights of ``lm``, with or without adapters, as a checkpoint without adapters names them."""
    modules = dict(lm.named_modules())
    for name, parameter in lm.named_parameters():
        if ".lora_" in name:
            continue
        module = modules[name.rpartition(".")[0]]
        adapted = modules[name.split(BASE)[0]] if BASE in name else None
        if adapted is None or parameter is not module.weight:
            yield Weight(name.replace(BASE, ""), [parameter])
            continue
        (key,) = adapted.lora_A
        update = [adapted.lora_A[key].weight, adapted.lora_B[key].weight]
        yield Weight(name.replace(BASE, ""), [parameter, *update], adapted.scaling[key])


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
