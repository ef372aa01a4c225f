"""A trained model leaves the learner, by the names of a checkpoint and as a folder; tried before it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from agrl.errors import ModelError
from agrl.models.build import save_model
from agrl.models.dropout import put_back
from learner.adapters import weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Named = Iterable[tuple[str, torch.Tensor]]
ONE_BY_ONE: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def as_published(lm: PreTrainedModel, named: Named) -> Named:
    """Weights by the names and in the shapes of a checkpoint, which are what ``save_pretrained`` writes and vLLM loads.

    transformers joins some of them when it loads a model, such as the experts of a layer: they are taken apart one by
    one. Where it took some apart, which only all together can be put together, all are held at once on the CPU.
    """
    if not getattr(lm, "_weight_conversions", None):
        return named
    if _one_by_one(lm):
        return (found for name, tensor in named for found in _converted(lm, {name: tensor}).items())
    return _converted(lm, {name: _copy(tensor) for name, tensor in named}).items()


def _one_by_one(lm: PreTrainedModel) -> bool:
    """Whether each weight can be brought into its published form by itself; found out once a model, without bytes."""
    if lm not in ONE_BY_ONE:
        named = {weight.name: torch.empty(weight.merged().shape, device="meta") for weight in weights(lm)}
        whole = _converted(lm, named)
        parts = [found for name, tensor in named.items() for found in _converted(lm, {name: tensor}).items()]
        shapes = {name: tensor.shape for name, tensor in parts}
        ONE_BY_ONE[lm] = len(parts) == len(whole) and shapes == {name: tensor.shape for name, tensor in whole.items()}
    return ONE_BY_ONE[lm]


def _converted(lm: PreTrainedModel, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    return revert_weight_conversion(lm, named)


def shapes(lm: PreTrainedModel) -> dict[str, torch.Size]:
    """Name -> shape of all that a checkpoint of ``lm`` holds, adapters merged: each is merged for it, one at a time."""
    return {weight.name: weight.merged().shape for weight in weights(lm)}


def export(
    lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, state: Named, rates: dict[str, float]
) -> None:
    """Write an ordinary Hugging Face folder of the weights ``state``.

    ``rates``: what ``agrl.models.dropout`` has switched off in the model's configuration.
    """
    whole = {name: _copy(tensor) for name, tensor in state}
    with put_back(lm.config, rates):
        save_model(lm, tokenizer, folder, whole)


def check_export(
    lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, plain: dict[str, torch.Size], rates: dict[str, float]
) -> None:
    """Raise ModelError when the trained model could not be written, which is too late to learn after training.

    ``plain``: the ``shapes`` of the model without adapters. Everything but the weights' bytes is written once.
    """
    found = shapes(lm)
    if wrong := sorted(name for name in plain.keys() | found.keys() if plain.get(name) != found.get(name)):
        name = wrong[0]
        raise ModelError(
            f"with low-rank updates {len(wrong)} weights of a {type(lm).__name__} are not those of the model, such as "
            f"{name}: {_shape(found.get(name))} instead of {_shape(plain.get(name))}",
            hint="train all weights of this model: model.lora_rank=0",
        )
    try:
        dict(as_published(lm, [(name, torch.empty(shape, device="meta")) for name, shape in found.items()]))
        with TemporaryDirectory() as folder:
            export(lm, tokenizer, Path(folder), [], rates)
    except Exception as error:
        raise ModelError(
            f"a trained {type(lm).__name__} could not be saved: {error}",
            hint="mend generation_config.json, config.json or the tokenizer's files of model.path, as the message says",
        ) from error


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU and by itself: an engine's parameters may be views of one flat buffer, which safetensors refuses."""
    return tensor if tensor.is_meta else tensor.to("cpu", copy=True)


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(list(shape))
