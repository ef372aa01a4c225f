"""Preference pairs in a file: what a DPO run samples once, and needs again when it is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agrl.algorithms.batch import PreferencePair, TrainSequence


def save_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write the pairs to an .npz file: token ids, behaviour log-probabilities and what the start model gives them.

    Arrays of the 2 N sequences (chosen, rejected, chosen, ...) one after another, with their lengths. Who sampled a
    response is left out: training on pairs does not look at it.
    """
    sequences = [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            prompt_ids=_joined([s.prompt_ids for s in sequences], np.int32),
            prompt_lengths=np.array([len(s.prompt_ids) for s in sequences]),
            response_ids=_joined([s.response_ids for s in sequences], np.int32),
            response_lengths=np.array([len(s.response_ids) for s in sequences]),
            rollout_logprobs=_joined([s.rollout_logprobs for s in sequences], np.float32),
            reference=np.array([[pair.reference_chosen, pair.reference_rejected] for pair in pairs], np.float64),
        )
    partial.replace(path)


def load_pairs(path: Path) -> list[PreferencePair]:
    """The pairs that ``save_pairs`` wrote."""
    with np.load(path, allow_pickle=False) as found:
        prompts = _parts(found["prompt_ids"], found["prompt_lengths"])
        responses = _parts(found["response_ids"], found["response_lengths"])
        logprobs = _parts(found["rollout_logprobs"], found["response_lengths"])
        sequences = [TrainSequence(*parts) for parts in zip(prompts, responses, logprobs, strict=True)]
        references = found["reference"].tolist()
    return [
        PreferencePair(chosen, rejected, *reference)
        for chosen, rejected, reference in zip(sequences[::2], sequences[1::2], references, strict=True)
    ]


def _joined(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(array, dtype) for array in arrays]) if arrays else np.zeros(0, dtype)


def _parts(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []
