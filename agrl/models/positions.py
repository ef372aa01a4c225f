"""How long a sequence a model takes, by its configuration alone, against the lengths that a run is configured for."""

from __future__ import annotations

from agrl.errors import ModelError
from agrl.models.build import load_config

KEYS = (  # of OPT and most, GPT-2, MPT, ChatGLM, Cohere, Whisper and others: those that vLLM knows
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
SCALED_ALREADY = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")


def positions(path: str) -> int | None:
    """The positions of the model in a folder or of a hub name; None where its configuration has no limit.

    Counted as vLLM does, which takes no longer sequences: the least of ``KEYS``, or ``model_max_length``; times the
    factor of a RoPE scaling that does not include it (``linear``, ``dynamic``).
    """
    config = load_config(path).get_text_config()
    limits = [limit for key in KEYS if (limit := getattr(config, key, None))]
    if not (limit := getattr(config, "model_max_length", None) or min(limits, default=None)):
        return None
    return int(limit * _scaling(getattr(config, "rope_parameters", None) or {}, config.model_type))


def check_positions(path: str, prompt: int, response: int) -> None:
    """Raise ModelError when prompts and responses of at most so many tokens are longer than the model takes."""
    limit = positions(path)
    if limit is not None and limit < prompt + response:
        raise ModelError(
            f"{path!r} takes sequences of {limit:,} tokens, but task.max_prompt_tokens={prompt} and "
            f"task.max_response_tokens={response} allow {prompt + response:,}",
            hint="lower the two to what your examples need, or give a model with more positions",
        )


def _scaling(rope: dict, model_type: str) -> float:
    """The factor of RoPE parameters, which some models have for each kind of layer."""
    if "gemma3" in model_type:  # its positions are those after scaling
        return 1.0
    kinds = [kind for kind in (rope, *rope.values()) if isinstance(kind, dict)]
    factors = [kind.get("factor") for kind in kinds if kind.get("rope_type", "default") not in SCALED_ALREADY]
    return max([factor for factor in factors if factor], default=1.0)
