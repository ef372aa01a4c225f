"""The low-rank updates of a model that is trained (``agrl.models.adapters`` made them): whole, merged, beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from agrl.errors import ModelError
from agrl.models.layout import Batch, pad_batch
from agrl.models.probe import gap, probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASE = ".base_layer"


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
        return (base.float() + self.adapted.get_delta_weight(self.adapter).float()).to(base.dtype)

    @torch.no_grad()
    def factors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """A and B of the update of a linear layer, in the weight's precision, so that it is B A: B has the scale."""
        module, name = self.name.removesuffix(".weight"), self.adapter
        a, b = self.adapted.lora_A[name].weight, self.adapted.lora_B[name].weight
        yield f"{module}.lora_A.weight", a.detach().to(self.tensor.dtype)
        yield f"{module}.lora_B.weight", (self.adapted.scaling[name] * b.detach()).to(self.tensor.dtype)

    @property
    def adapter(self) -> str:
        """peft's name of the update."""
        return self.adapted.active_adapters[0]


def weights(lm: nn.Module) -> Iterator[Weight]:
    """What a checkpoint of ``lm`` holds, as if it had no adapters; what is tied, once."""
    adapted, seen = {id(_target(layer)): layer for layer in _adapted_layers(lm)}, set()
    for name, tensor in lm.state_dict(keep_vars=True).items():
        if ".lora_" in name or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        yield Weight(name.replace(BASE, ""), tensor, adapted.get(id(tensor)))


def served_beside(lm: nn.Module) -> bool:
    """Whether all updates of ``lm`` are of plain linear layers, as a server of low-rank updates takes them.

    Experts and routers that are parameters of another module, and transposed layers, are merged for the engines.
    """
    layers = _adapted_layers(lm)
    return bool(layers) and all(isinstance(layer.get_base_layer(), nn.Linear) for layer in layers)


@torch.no_grad()
def check_merge(lm: PreTrainedModel) -> None:
    """Raise ModelError when the merged weights make another model than the updates beside them do.

    Tried on the first adapted layer of each kind, with random values in the place of its B, which is 0.
    """
    kinds = {_kind(weight): weight for weight in reversed([w for w in weights(lm) if w.adapted is not None])}
    generator = torch.Generator().manual_seed(0)
    ups = [weight.adapted.lora_B[weight.adapter].weight for weight in kinds.values()]
    for up in ups:
        up.copy_(torch.randn(up.shape, generator=generator) / up.shape[-1])
    beside, bases = probe(lm, pad_batch), [weight.tensor.data for weight in kinds.values()]
    for weight in kinds.values():
        weight.tensor.data = weight.merged()
    with without_adapters(lm):
        reason = gap(lm, probe(lm, pad_batch), beside)
    for weight, base, up in zip(kinds.values(), bases, ups, strict=True):
        weight.tensor.data = base
        up.zero_()
    if reason:
        raise ModelError(
            f"the low-rank updates of a {type(lm).__name__} cannot be merged into its weights: {reason}",
            hint="train all weights of this model: model.lora_rank=0",
        )


def _adapted_layers(lm: nn.Module) -> list[nn.Module]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]


def _target(layer: nn.Module) -> nn.Parameter:
    """What a layer of peft has an update of: experts and routers are parameters of a module that is no linear layer."""
    return layer.get_param() if hasattr(layer, "get_param") else layer.get_base_layer().weight


def _kind(weight: Weight) -> tuple[type, type, str]:
    return type(weight.adapted), type(weight.adapted.get_base_layer()), weight.name.rpartition(".")[2]


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
    layers = _adapted_layers(lm)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
