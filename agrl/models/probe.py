"""A small batch that tells whether a model computes what the learner takes it to: configurations tell only half."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from agrl.errors import ModelError
from agrl.models.layout import Batch, pad_batch
from agrl.models.logprobs import PolicyModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # nats, on average; 0.1 in lower precision


def probe_batch(lm: PreTrainedModel, lay_out: Callable[..., Batch]) -> Batch:
    """Four short random sequences, three of them with one prompt, laid out by one of ``LAYOUTS``."""
    generator = np.random.default_rng(0)
    draw = lambda n: generator.integers(0, lm.config.vocab_size, n)  # noqa: E731
    prompt = draw(7)
    batch = lay_out([prompt, prompt, draw(4), prompt], [draw(n) for n in (3, 5, 4, 1)])
    return batch.to(lm.device)


@torch.no_grad()
def probe(lm: PreTrainedModel, lay_out: Callable[..., Batch]) -> torch.Tensor:
    """The learner's log-probabilities of the probe's responses, float32 [tokens]."""
    training = lm.training
    found, _ = PolicyModel(lm.eval())(probe_batch(lm, lay_out))
    lm.train(training)
    return found


def gap(lm: PreTrainedModel, found: torch.Tensor, expected: torch.Tensor) -> str:
    """By how much two probes differ, in words; empty when by no more than rounding."""
    mean = (found - expected).abs().mean().item()
    return "" if mean <= TOLERANCE.get(lm.dtype, 0.1) else f"its log-probabilities change by {mean:.1e} nats"


@torch.no_grad()
def check_output_layer(lm: PreTrainedModel) -> None:
    """Raise ModelError when the model does more with its output layer than a matrix product.

    Some cap or scale their logits after it (Gemma 2, Granite, Cohere). The learner, which never has all logits, would
    train another distribution than the one that is sampled from.
    """
    batch = probe_batch(lm, pad_batch)
    training = lm.training
    logits = lm.eval()(input_ids=batch.input_ids, use_cache=False).logits.flatten(0, 1)[batch.predictors].float()
    lm.train(training)
    expected = logits.log_softmax(-1).gather(-1, batch.targets[:, None]).squeeze(-1)
    if gap(lm, probe(lm, pad_batch), expected):
        raise ModelError(
            f"{type(lm).__name__} changes its logits after the output layer, which the learner does not compute",
            hint="capped or scaled logits (final_logit_softcapping, logits_scaling, logit_scale) are not supported",
        )
