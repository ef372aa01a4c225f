"""A tiny llama as a GGUF file, written as llama.cpp's converter writes one; and a wheel that holds it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agrl.models.build import train_tokenizer
from agrl.models.published import Published

TEXTS = ["search: red grinder not electric", "title: burr mill   1250 mm, crimson", "tier: 4", "category: same"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUANTISED = GGMLQuantizationType.Q4_1
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers": "blk",
}


def tiny_llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = train_tokenizer(TEXTS, 300)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config), tokenizer


def write_gguf(
    file: Path, lm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, without: str = "", architecture: str = "llama"
) -> dict[str, torch.Tensor]:
    """Quantises the matrices; returns the weights that are in the file, dequantised, by the model's own names.

    ``without``: weights whose name ends so are left out.
    """
    writer = GGUFWriter(file, architecture)
    _write_metadata(writer, lm.config, tokenizer)
    written = {}
    for name, weight in lm.state_dict().items():
        if name == "lm_head.weight" or (without and name.endswith(without)):
            continue
        values = weight.float().numpy()
        if values.ndim == 2:
            written[name] = torch.from_numpy(dequantize(quantize(values, QUANTISED), QUANTISED).copy())
            writer.add_tensor(_name(name), quantize(_pairs(name, values, lm.config), QUANTISED), raw_dtype=QUANTISED)
        else:
            written[name] = weight
            writer.add_tensor(_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def write_wheel(folder: Path, file: Path) -> Published:
    """A package ``agrl-tiny-model`` 1.0 with the file in it, for pip to find in ``folder``."""
    info = "agrl_tiny_model-1.0.dist-info"
    content = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: agrl-tiny-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "agrl_tiny_model/tiny.gguf": file.read_bytes(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "agrl_tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
        packed.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*content, f"{info}/RECORD")))
    return Published(
        title="A tiny llama",
        license="Apache-2.0",
        package="agrl-tiny-model",
        version="1.0",
        file="agrl_tiny_model/tiny.gguf",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        download=wheel.stat().st_size,
    )


def _write_metadata(writer: GGUFWriter, config: LlamaConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    writer.add_name("tiny llama")
    writer.add_license("apache-2.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    unused = [f"[unused{i}]" for i in range(config.vocab_size - len(tokens))]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # as train_tokenizer cuts texts
    writer.add_token_list(tokens + unused)
    writer.add_token_types([3 if token in special else 1 for token in tokens] + [5] * len(unused))
    writer.add_token_merges([" ".join(pair) for pair in _merges(tokenizer)])
    writer.add_bos_token_id(tokenizer.eos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _merges(tokenizer: PreTrainedTokenizerFast) -> list[list[str]]:
    import json

    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]


def _name(name: str) -> str:
    for own, theirs in NAMES.items():
        name = name.replace(own, theirs)
    return name


def _pairs(name: str, weight: np.ndarray, config: LlamaConfig) -> np.ndarray:
    """Queries and keys with the two halves of a rotation beside each other, as llama.cpp has them; rows move whole."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2], 0)
    if not heads:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
