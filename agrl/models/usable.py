"""Whether a model folder can be trained and served here: all of it is tried once, as a run would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agrl.errors import ModelError
from agrl.models.architecture import Architecture, read_architecture
from agrl.models.build import load_config, load_model
from agrl.models.chat import PROBE
from agrl.models.packing import choose_packing
from agrl.models.positions import positions
from agrl.models.probe import check_output_layer
from agrl.models.tokens import encode_prompt, load_tokenizer

WEIGHTS = ("*.safetensors", "*.bin")  # the first of these that a folder has is read


@dataclass(frozen=True)
class Usable:
    """What a folder holds. ``size``: bytes of its weights. ``positions``: None for no limit.

    ``packing``: what its prompts can be spared, and why no more (``choose_packing``).
    """

    kind: str
    parameters: int
    dtype: str
    size: int
    vocabulary: int
    positions: int | None
    chat_template: bool
    safetensors: bool
    packing: tuple[str, str]


def examine(folder: Path) -> Usable:
    """Load a model folder, tokenizer and weights, and try what a run needs of them.

    Raises ModelError naming what is missing or does not fit: a causal language model, its weights, a tokenizer with an
    end token, a chat template that works, an output layer that the learner computes, memory.
    """
    path, weights = str(folder), _weights(folder)
    config, shape = load_config(path), read_architecture(path)
    tokenizer = load_tokenizer(path)
    if len(tokenizer) > shape.vocabulary:
        raise ModelError(
            f"the tokenizer of {path!r} has {len(tokenizer):,} tokens, and the model embeds {shape.vocabulary:,}",
            hint="tokenizer and model are not of one another: fetch both from the same place",
        )
    encode_prompt(tokenizer, PROBE)
    size = sum(file.stat().st_size for file in weights)
    _require_memory(path, shape)
    lm = load_model(path, "bfloat16")
    check_output_layer(lm)
    return Usable(
        kind=type(lm).__name__,
        parameters=shape.parameters,
        dtype=str(config.dtype or "").removeprefix("torch."),
        size=size,
        vocabulary=shape.vocabulary,
        positions=positions(path),
        chat_template=bool(tokenizer.chat_template),
        safetensors=weights[0].suffix == ".safetensors",
        packing=choose_packing(lm, "shared"),
    )


def _weights(folder: Path) -> list[Path]:
    for pattern in WEIGHTS:
        if found := sorted(folder.glob(pattern)):
            return found
    raise ModelError(
        f"{folder} holds no weights, neither .safetensors nor .bin",
        hint="give the folder of a whole Hugging Face model, with config.json, weights and tokenizer; or a .gguf file",
    )


def _require_memory(path: str, shape: Architecture) -> None:
    import psutil

    needed, free = 2 * shape.parameters, psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"to try {path!r} takes {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            hint="try it on a larger machine; `agrl plan model.path=...` needs no memory for weights",
        )
