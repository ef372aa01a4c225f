"""A batch as it travels: a few long arrays in the place of an object for every sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agrl.algorithms.batch import TrainSequence
from agrl.relevance.records import Provenance


class Ragged(Sequence[np.ndarray]):
    """Arrays [T_i] of one type in one array; each is read as a view of it."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._flat = np.concatenate(arrays) if len(arrays) else np.empty(0, np.int32)
        self._ends = np.cumsum([len(array) for array in arrays], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._flat[self._ends[index - 1] if index else 0 : self._ends[index]]


class Columns(Sequence[TrainSequence]):
    """Sequences, made one by one when they are asked for: a rank reads its own part of a batch alone.

    A prompt that neighbours share is there once.
    """

    def __init__(self, sequences: Sequence[TrainSequence]) -> None:
        prompts, self._prompt = [], np.empty(len(sequences), np.int32)
        for i, sequence in enumerate(sequences):
            if not prompts or sequence.prompt_ids is not prompts[-1]:
                prompts.append(sequence.prompt_ids)
            self._prompt[i] = len(prompts) - 1
        self._prompts = Ragged(prompts)
        self._responses = Ragged([s.response_ids for s in sequences])
        self._logprobs = Ragged([s.rollout_logprobs for s in sequences])
        self._advantages = np.array([s.advantage for s in sequences], np.float64)
        self._numbers = np.array([(s.provenance, s.version, s.actor) for s in sequences], np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._prompt)

    def __getitem__(self, index: int) -> TrainSequence:
        provenance, version, actor = self._numbers[index].tolist()
        return TrainSequence(
            prompt_ids=self._prompts[self._prompt[index]],
            response_ids=self._responses[index],
            rollout_logprobs=self._logprobs[index],
            advantage=float(self._advantages[index]),
            provenance=Provenance(provenance),
            version=version,
            actor=actor,
        )
