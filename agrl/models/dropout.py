"""What is random in a model that trains (dropout, dropped layers, router jitter): switched off, and put back on export.

A policy's loss compares log-probabilities that were computed at different times, and in different engines: they must
depend on weights and tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.dropout import _DropoutNd

from agrl.errors import ModelError
from agrl.models.layout import pad_batch
from agrl.models.logprobs import PolicyModel
from agrl.models.probe import TOLERANCE, probe, probe_batch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

RANDOM = ("drop", "jitter")  # in the names of all such keys: resid_pdrop, layerdrop, router_jitter_noise ...


def random_rates(config: PretrainedConfig) -> dict[str, float]:
    """The keys of a configuration that make training random, nested ones as "outer.inner", and their values."""
    found: dict[str, float] = {}
    for key, value in _values(config).items():
        if isinstance(value, float) and value > 0 and any(part in key for part in RANDOM):
            found[key] = value
        elif _is_nested(value):
            found |= {f"{key}.{inner}": rate for inner, rate in random_rates(value).items()}
    return found


def set_rates(config: PretrainedConfig, rates: dict[str, float]) -> None:
    """Give the keys, named as ``random_rates`` names them, these values."""
    for key, rate in rates.items():
        *outer, last = key.split(".")
        owner = config
        for name in outer:
            owner = _values(owner)[name]
        if isinstance(owner, dict):
            owner[last] = rate
        else:
            setattr(owner, last, rate)


@contextmanager
def put_back(config: PretrainedConfig, rates: dict[str, float]) -> Iterator[None]:
    """The configuration with the rates that it was published with, for as long as it is written."""
    set_rates(config, rates)
    try:
        yield
    finally:
        set_rates(config, dict.fromkeys(rates, 0.0))


def still(lm: PreTrainedModel) -> None:
    """Switch off every dropout layer, also those whose rate is not in the configuration."""
    for module in lm.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0


@torch.no_grad()
def check_repeatable(lm: PreTrainedModel) -> None:
    """Raise ModelError when ``lm`` computes something else in training than it does for evaluation: it is tried."""
    expected, training = probe(lm, pad_batch), lm.training
    batch, policy = probe_batch(lm, pad_batch), PolicyModel(lm.train())
    passes = [policy(batch)[0] for _ in range(3)]
    lm.train(training)
    gap = max((found - expected).abs().mean().item() for found in passes)
    if gap > TOLERANCE.get(lm.dtype, 0.1) / 10:
        guilty = ", ".join(sorted(set(_suspects(lm)))) or "no setting that has a name for it"
        raise ModelError(
            f"{type(lm).__name__} computes something else in training than otherwise: log-probabilities of the same "
            f"tokens differ by {gap:.1e} nats, though all dropout of its configuration is off (found: {guilty})",
            hint="ratios of probabilities cannot be random: set its rate to 0 in config.json, or use another model",
        )


def _values(config: Any) -> dict[str, Any]:
    return config if isinstance(config, dict) else vars(config)


def _is_nested(value: Any) -> bool:
    from transformers import PretrainedConfig

    return isinstance(value, dict | PretrainedConfig)


def _suspects(lm: PreTrainedModel) -> Iterator[str]:
    """What modules still have of the kind, as "Class.attribute"."""
    for module in lm.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and value > 0 and any(part in name.lower() for part in RANDOM):
                yield f"{type(module).__name__}.{name}"
