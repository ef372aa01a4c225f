"""Small Qwen3 models with a tokenizer trained on the task's own text; loading and saving of any model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agrl.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

END, PAD = "<|end|>", "<|pad|>"


@dataclass(frozen=True)
class TinyShape:
    """The shape of a small model. ``vocab_size`` is an upper bound: the tokenizer may find fewer merges.

    ``head_size`` 0: the hidden size over the heads. ``embeddings``: at least so many, trained or not.
    """

    vocab_size: int = 2048
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 384
    max_positions: int = 2048  # the prompt and the response that fit without other settings, and more
    tied: bool = True
    head_size: int = 0
    embeddings: int = 0


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text can be encoded, frequent words become one token, digits stay single."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def model_config(shape: TinyShape, vocabulary: int) -> PretrainedConfig:
    """The configuration of a Qwen3 model for a tokenizer of ``vocabulary`` tokens."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=-(-max(vocabulary, shape.embeddings) // 64) * 64,  # a multiple of 64 keeps matrix products aligned
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size or shape.hidden_size // shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        # 1 / sqrt(hidden), as suits small matrices: with the usual 0.02 looking things up in the prompt is learned late
        initializer_range=shape.hidden_size**-0.5,
    )


def make_tiny_model(out: Path, texts: Iterable[str], shape: TinyShape | None = None, seed: int = 0) -> dict[str, int]:
    """Write a randomly initialised Qwen3 model and its tokenizer to ``out``; returns its parameter and token counts."""
    import torch
    from transformers import Qwen3ForCausalLM

    shape = shape or TinyShape()
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    config = model_config(shape, len(tokenizer))
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    save_model(model, tokenizer, out)
    return {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write an ordinary Hugging Face folder that AutoModelForCausalLM and vLLM load.

    ``weights``: in the place of the model's own, by the names of its modules.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out, state_dict=weights)
    tokenizer.save_pretrained(out)


def load_config(path: str) -> PretrainedConfig:
    """The configuration of a model folder or hub name. Raises ModelError naming it."""
    from transformers import AutoConfig

    with _explained(path):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def load_model(path: str, dtype: str) -> PreTrainedModel:
    """Any Hugging Face causal language model, nothing random in it (``agrl.models.dropout``).

    Raises ModelError naming the path, and the weights that the model needs and its files do not have.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from agrl.models.dropout import random_rates, set_rates, still

    config = load_config(path)
    set_rates(config, dict.fromkeys(random_rates(config), 0.0))
    with _explained(path):
        lm, found = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):  # transformers would go on with random ones
        raise ModelError(
            f"{path!r} lacks {len(missing)} weights of a {type(lm).__name__}, such as {missing[0]}",
            hint="download it again, or give a folder whose config.json is that of its weights",
        )
    still(lm)
    return lm


@contextmanager
def _explained(path: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"no causal language model could be loaded from {path!r}: {error}",
            hint="give model.path=FOLDER of a Hugging Face model, fetch one with `agrl model get`, or make a small "
            "one with `agrl model make`",
        ) from error
