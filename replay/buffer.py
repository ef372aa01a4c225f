"""The policy's own good answers, a few a prompt, kept so that they can be replayed when it loses the way again."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from agrl.relevance.records import Provenance, Rollout

ARRAYS = {"prompt_ids": np.int32, "response_ids": np.int32, "logprobs": np.float32}


def surprise(rollout: Rollout) -> float:
    """Mean negative log-probability of the sampled tokens, nats: the one-sample estimate of the policy's entropy."""
    return -float(np.mean(rollout.logprobs, dtype=np.float64)) if len(rollout.logprobs) else 0.0


class TrajectoryBuffer:
    """Prompt id -> its best trajectories: least surprising first (ExGRPO, arXiv 2510.02245), then the most recent.

    At most ``per_prompt`` a prompt, all of different text, and ``prompts`` prompts; the prompt which has waited longest
    for a new good answer leaves first. The rewards are not kept: score a text again when it is replayed.
    """

    def __init__(self, prompts: int = 4096, per_prompt: int = 2) -> None:
        self._prompts, self._per_prompt = prompts, per_prompt
        self._best: dict[str, list[Rollout]] = {}  # in the order of the last addition

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._best.values())

    def add(self, rollout: Rollout) -> None:
        """Offer an answer of the policy. Anything that it did not sample under the prompt itself is refused."""
        if rollout.provenance is not Provenance.ON_POLICY:
            raise ValueError(f"prompt {rollout.example_id!r}: only on-policy rollouts are kept for replay")
        kept = [r for r in self._best.pop(rollout.example_id, []) if r.text != rollout.text]
        ranked = sorted([*kept, rollout], key=lambda r: (surprise(r), -r.version))
        self._best[rollout.example_id] = [_own(r) if r is rollout else r for r in ranked[: self._per_prompt]]
        if len(self._best) > self._prompts:
            del self._best[next(iter(self._best))]

    def best(self, example_id: str, k: int = 1) -> list[Rollout]:
        """At most ``k`` stored trajectories of a prompt, the best first."""
        return self._best.get(example_id, [])[:k]

    def state_dict(self) -> dict:
        """Everything, in plain types (JSON keeps it exactly)."""
        return {example_id: [_pack(r) for r in kept] for example_id, kept in self._best.items()}

    def load_state_dict(self, state: dict) -> None:
        """Replace the content by that of a ``state_dict``."""
        self._best = {example_id: [_unpack(r) for r in kept] for example_id, kept in state.items()}


def _own(rollout: Rollout) -> Rollout:
    """With arrays of its own: what comes through Ray may be a view that pins the whole step in the object store."""
    return replace(rollout, **{name: np.array(getattr(rollout, name), dtype) for name, dtype in ARRAYS.items()})


def _pack(rollout: Rollout) -> dict:
    record = {f.name: getattr(rollout, f.name) for f in fields(rollout)}
    return {**record, "provenance": int(rollout.provenance), **{n: record[n].tolist() for n in ARRAYS}}


def _unpack(record: dict) -> Rollout:
    arrays = {name: np.array(record[name], dtype) for name, dtype in ARRAYS.items()}
    more = {"provenance": Provenance(record["provenance"]), "spans": tuple(map(tuple, record.get("spans", ())))}
    return Rollout(**{**record, **more, **arrays})
