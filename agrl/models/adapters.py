"""Low-rank updates (LoRA, arXiv 2106.09685) put into a model: the learner's, or one without weights to be counted."""

from __future__ import annotations

from torch import nn


def add_adapters(lm: nn.Module, rank: int, alpha: float) -> None:
    """Freeze ``lm`` and give every linear layer but the output layer a trained update alpha / rank B A, in place.

    Experts and routers that are parameters of some other module get one too. B starts as zero, so the model is at first
    the one that it was. No dropout: it would make the ratio of new to old probability random.
    """
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0), lm)
