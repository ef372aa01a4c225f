"""Which prompts are tried next: by difficulty, or every one once an epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence

import numpy as np

from agrl.config.schema import ReplayConfig, Sampling
from agrl.errors import ConfigError, DataError
from replay.statistics import PromptTable


class PromptSampler:
    """Draws prompt ids, without replacement inside a step; the same seed and outcomes give the same draws.

    Raises DataError when ``ids`` is empty or names a prompt twice.
    """

    def __init__(self, ids: Sequence[str], cfg: ReplayConfig, rollouts_per_prompt: int, seed: int) -> None:
        self._ids = list(ids)
        self._index = {example_id: i for i, example_id in enumerate(self._ids)}
        if not self._ids:
            raise DataError("the RL pool is empty", hint="data.train must hold at least one example")
        if len(self._index) < len(self._ids):
            twice = next(name for i, name in enumerate(self._ids) if self._index[name] != i)
            raise DataError(f"the RL pool holds id {twice!r} twice", hint="find them with: agrl data validate FILE")
        self._cfg = cfg
        self._rollouts = rollouts_per_prompt
        self._random = np.random.default_rng(seed)
        self._epoch: list[int] = []  # what is left of the present epoch (uniform sampling)
        self._epochs = 0  # epochs begun

    @property
    def epochs(self) -> int:
        """Epochs begun so far; stays 0 under difficulty sampling, which has none."""
        return self._epochs

    def sample(self, n: int, table: PromptTable, step: int, taken: Collection[str] = ()) -> list[str]:
        """``n`` prompt ids for ``step``, different from one another and from those that the step has ``taken`` already.

        Raises ConfigError when the pool is smaller than that.
        """
        if n + len(taken) > len(self._ids):
            raise ConfigError(
                f"step {step} asks for {n + len(taken)} different prompts and the RL pool (data.train) has "
                f"{len(self._ids)}",
                hint="lower trainer.prompts_per_step or trainer.generation_budget, or give a larger pool",
            )
        barred = {self._index[example_id] for example_id in taken}
        difficulty = self._cfg.sampling is Sampling.difficulty
        chosen = self._by_difficulty(n, table, barred) if difficulty else self._by_epoch(n, barred)
        return [self._ids[i] for i in chosen]

    def log_weights(self, table: PromptTable) -> np.ndarray:
        """Log of every prompt's relative weight, float64 [N] in the order of ``ids``; 0 is the peak.

        Normal(k; G/2, 1) over its peak for k = moving accuracy x G (after ExGRPO, arXiv 2510.02245), at least
        ``floor``. A prompt that was never tried weighs 1: the first thing to learn about it is how hard it is.
        """
        successes = np.full(len(self._ids), self._rollouts / 2)
        for example_id, stats in table.items():
            if example_id in self._index and stats.attempts:
                successes[self._index[example_id]] = stats.accuracy * self._rollouts
        floor = math.log(self._cfg.floor) if self._cfg.floor > 0 else -math.inf
        return np.maximum(-0.5 * (successes - self._rollouts / 2) ** 2, floor)

    def _by_difficulty(self, n: int, table: PromptTable, barred: set[int]) -> list[int]:
        # Weighted draws without replacement at one go: the n largest of log-weight plus Gumbel noise.
        keys = self.log_weights(table) + self._random.gumbel(size=len(self._ids))
        keys[list(barred)] = -np.inf
        return np.argsort(-keys, kind="stable")[:n].tolist()

    def _by_epoch(self, n: int, barred: set[int]) -> list[int]:
        # What the step holds already waits for a later step of the epoch, so that no step has a prompt twice.
        chosen = [i for i in self._epoch if i not in barred][:n]
        if len(chosen) < n:  # the epoch ends inside this step
            order, barred = self._random.permutation(len(self._ids)).tolist(), barred | set(chosen)
            first = [i for i in order if i not in barred][: n - len(chosen)]
            self._epoch = [i for i in order if i not in set(first)]
            self._epochs += 1
            return chosen + first
        self._epoch = [i for i in self._epoch if i not in set(chosen)]
        return chosen

    def state_dict(self) -> dict:
        """Random state and position in the epoch, in plain types."""
        return {
            "random": copy.deepcopy(self._random.bit_generator.state),
            "epoch": list(self._epoch),
            "epochs": self._epochs,
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on exactly where ``state``, of a sampler of the same pool, was taken."""
        self._random.bit_generator.state = copy.deepcopy(state["random"])
        self._epoch, self._epochs = list(state["epoch"]), state["epochs"]
