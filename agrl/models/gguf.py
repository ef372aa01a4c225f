"""A GGUF file as an ordinary Hugging Face folder: dequantised weights, tokenizer, chat template."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agrl.errors import ConfigError, ModelError
from agrl.models.build import save_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAGIC = b"GGUF"
BYTES = 2  # of a weight in bfloat16
DIGITS_APART = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Pre-tokenizers (``tokenizer.ggml.pre``) that cut digits off before GPT-2's pattern, by llama.cpp's table."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself; "" where it does not. ``tokens``: of its vocabulary; ``parameters``: all numbers."""

    architecture: str
    name: str
    license: str
    pre_tokenizer: str
    tokens: int
    parameters: int

    @property
    def converted_bytes(self) -> int:
        """About the size of the folder that ``convert`` writes."""
        return BYTES * self.parameters


def require_gguf() -> None:
    """Raise ConfigError, with the command that installs it, when the package ``gguf`` is not here."""
    if find_spec("gguf") is None:
        raise ConfigError(
            "a GGUF file is read with the package gguf, which is not installed", hint="pip install 'agrl[gguf]'"
        )


def read_header(file: Path) -> Header:
    """Raises ModelError naming a file that is no GGUF, or is cut short; ConfigError without the package ``gguf``."""
    require_gguf()
    from gguf import GGUFReader

    with file.open("rb") as content:
        if content.read(len(MAGIC)) != MAGIC:
            raise ModelError(
                f"{file} is no GGUF file: it does not begin with {MAGIC.decode()}",
                hint="a text file of a few lines is what git leaves without its large files: git lfs pull",
            )
    with _explained(file):
        reader = GGUFReader(file)
        said = lambda key: field.contents() if (field := reader.get_field(key)) else ""  # noqa: E731
        return Header(
            architecture=said("general.architecture"),
            name=said("general.name"),
            license=said("general.license"),
            pre_tokenizer=said("tokenizer.ggml.pre"),
            tokens=len(tokens.data) if (tokens := reader.get_field("tokenizer.ggml.tokens")) else 0,
            parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        )


def convert(file: Path, out: Path) -> None:
    """Write the model of a GGUF file to the folder ``out``, in bfloat16.

    Raises ModelError naming a file that Transformers cannot read, or that lacks weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    header = read_header(file)
    with tempfile.TemporaryDirectory(prefix="agrl-gguf-") as alone, _explained(file, header.architecture):
        # by itself: a config.json or a tokenizer that lies beside the file is of another model
        (Path(alone) / "model.gguf").symlink_to(file.resolve())
        source: dict[str, Any] = {"gguf_file": "model.gguf"}
        tokenizer = AutoTokenizer.from_pretrained(alone, **source)
        lm, found = AutoModelForCausalLM.from_pretrained(
            alone,
            **source,
            quantization_config=GgufConfig(dequantize=True),  # any other model refuses to be saved
            dtype=torch.bfloat16,
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"{file} lacks {len(missing)} weights of a {type(lm).__name__}, such as {missing[0]}",
            hint="of a model in several files (-00001-of-...), join them first: llama-gguf-split --merge",
        )
    lm.config.name_or_path = header.name or file.stem
    save_model(lm, _as_in_file(tokenizer, header), out)


def _as_in_file(tokenizer: PreTrainedTokenizerFast, header: Header) -> PreTrainedTokenizerFast:
    """The tokenizer without what Transformers adds: a token of GPT-2's that has no embedding; and with what it leaves
    out, digits cut off first (else one after several spaces becomes other tokens)."""
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < header.tokens]
    backend = Tokenizer.from_str(json.dumps(state))
    if header.pre_tokenizer in DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template=tokenizer.chat_template, **tokenizer.special_tokens_map
    )


@contextmanager
def _explained(file: Path, architecture: str = "") -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # two libraries read it, and what a damaged file brings about is anything
        if getattr(error, "errno", None):  # the system's, and said by name elsewhere
            raise
        of = f" (architecture {architecture!r})" if architecture else ""
        raise ModelError(
            f"{file}{of} cannot be read: {type(error).__name__}: {error}",
            hint="Transformers reads causal language models of the common architectures (llama, qwen2, qwen3, gemma3, "
            "...). Where it is one of these, the file is damaged: fetch it again",
        ) from error
