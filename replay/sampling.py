"""Which prompts are tried next: by difficulty, or every one once an epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from agrl.config.schema import ReplayConfig, Sampling
from agrl.errors import ConfigError, DataError
from replay.statistics import PromptTable

PROPOSALS = 4  # for each prompt that is still to be drawn
ROUNDS = 32  # of proposals, then the rest is drawn from all prompts at once


class PromptSampler:
    """Draws prompts by their number, without replacement inside a step; the same seed and outcomes give the same draws.

    A draw takes no work that grows with ``size``. Raises DataError when there are no prompts.
    """

    def __init__(self, size: int, cfg: ReplayConfig, rollouts_per_prompt: int, seed: int) -> None:
        if not size:
            raise DataError("the RL pool is empty", hint="data.train must hold at least one example")
        self._size, self._cfg, self._rollouts = size, cfg, rollouts_per_prompt
        self._random = np.random.default_rng(seed)
        self._left_out = np.zeros(size, bool)
        self.left_out = 0  # prompts that are never drawn again
        self._begin = copy.deepcopy(self._random.bit_generator.state)  # of the order of the present epoch
        self._order = np.zeros(0, np.int32)  # of the present epoch (uniform sampling)
        self._at = 0  # in that order
        self._waiting: list[int] = []  # passed over in this epoch, by a step that had them already
        self.epochs = 0  # begun so far; stays 0 under difficulty sampling, which has none

    def sample(self, n: int, table: PromptTable, step: int, taken: Collection[int] = ()) -> list[int]:
        """``n`` prompts for ``step``, different from one another and from those that the step has ``taken`` already.

        Raises ConfigError when the pool is smaller than that.
        """
        barred = set(taken)
        if n + len(barred) > self._size - self.left_out:
            without = f", {self.left_out} of them longer than task.max_prompt_tokens" if self.left_out else ""
            raise ConfigError(
                f"step {step} asks for {n + len(barred)} different prompts and the RL pool (data.train) has "
                f"{self._size}{without}",
                hint="lower trainer.prompts_per_step or trainer.generation_budget, or give a larger pool",
            )
        difficulty = self._cfg.sampling is Sampling.difficulty
        return self._by_difficulty(n, table, barred) if difficulty else self._by_epoch(n, barred)

    def leave_out(self, prompts: Sequence[int]) -> None:
        """Never draw these again."""
        self.left_out += int((~self._left_out[list(prompts)]).sum())
        self._left_out[list(prompts)] = True

    def log_weights(self, table: PromptTable, prompts: np.ndarray) -> np.ndarray:
        """Log of the relative weight of these prompts, float64; 0 is the peak.

        Normal(k; G/2, 1) over its peak for k = moving accuracy x G (after ExGRPO, arXiv 2510.02245), at least
        ``floor``. A prompt that was never tried weighs 1: the first thing to learn about it is how hard it is.
        """
        successes = table.accuracies(prompts, untried=0.5).astype(np.float64) * self._rollouts
        floor = math.log(self._cfg.floor) if self._cfg.floor > 0 else -math.inf
        return np.maximum(-0.5 * (successes - self._rollouts / 2) ** 2, floor)

    def _by_difficulty(self, n: int, table: PromptTable, barred: set[int]) -> list[int]:
        """Weighted draws one after another: any prompt is proposed, and taken with its weight, which is 1 at most, as
        probability; one that is there already is proposed in vain. So only proposed prompts are looked at."""
        chosen: dict[int, None] = {}
        for _ in range(ROUNDS):
            proposed = self._random.integers(self._size, size=PROPOSALS * (n - len(chosen)))
            with np.errstate(divide="ignore"):  # a probability of 0 is a logarithm of -inf
                wins = np.log(self._random.random(len(proposed))) < self.log_weights(table, proposed)
            for prompt in proposed[wins & ~self._left_out[proposed]].tolist():
                if prompt not in barred:
                    chosen[prompt] = None
                if len(chosen) == n:
                    return list(chosen)
        return list(chosen) + self._at_one_go(n - len(chosen), table, barred | chosen.keys())

    def _at_one_go(self, n: int, table: PromptTable, barred: set[int]) -> list[int]:
        """The same from all prompts: the n largest of log-weight plus Gumbel noise (arXiv 1903.06059)."""
        keys = self.log_weights(table, np.arange(self._size)) + self._random.gumbel(size=self._size)
        keys[self._left_out] = -np.inf
        keys[list(barred)] = -np.inf
        return np.argsort(-keys, kind="stable")[:n].tolist()

    def _by_epoch(self, n: int, barred: set[int]) -> list[int]:
        chosen = self._next(n, barred)
        if len(chosen) < n:  # the epoch ends inside this step
            self._begin = copy.deepcopy(self._random.bit_generator.state)
            self._begin_epoch()
            self.epochs += 1
            chosen += self._next(n - len(chosen), barred | set(chosen))
        return chosen

    def _begin_epoch(self) -> None:
        self._order = self._random.permutation(np.arange(self._size, dtype=np.int32))
        self._at, self._waiting = 0, []

    def _next(self, n: int, barred: set[int]) -> list[int]:
        """At most ``n`` of what the epoch still has. What the step holds already waits for a later step of the epoch,
        so that no step has a prompt twice."""
        chosen: list[int] = []
        waited, self._waiting = self._waiting, []
        for prompt in waited:
            free = len(chosen) < n and prompt not in barred
            (chosen if free else self._waiting).append(prompt)
        while len(chosen) < n and self._at < len(self._order):
            prompt = int(self._order[self._at])
            self._at += 1
            if not self._left_out[prompt]:
                (self._waiting if prompt in barred else chosen).append(prompt)
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """Random states and the position in the epoch, whose order is drawn again; "left_out": a bit a prompt."""
        return {
            "random": copy.deepcopy(self._random.bit_generator.state),
            "begin": copy.deepcopy(self._begin),
            "at": self._at,
            "waiting": list(self._waiting),
            "epochs": self.epochs,
            "left_out": np.packbits(self._left_out),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state``, of a sampler of the same pool, was taken."""
        self._left_out = np.unpackbits(state["left_out"], count=self._size).astype(bool)
        self.left_out, self.epochs = int(self._left_out.sum()), state["epochs"]
        self._begin = copy.deepcopy(state["begin"])
        if self.epochs:
            self._random.bit_generator.state = copy.deepcopy(state["begin"])
            self._begin_epoch()
        self._at, self._waiting = state["at"], list(state["waiting"])
        self._random.bit_generator.state = copy.deepcopy(state["random"])
