"""What the engines of a pool generated for training, and how long they waited for one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.generation import Generation, Progress


@dataclass
class Traffic:
    """Of several batches. ``seconds``: of each actor at work; ``shares``: response tokens of each actor."""

    seconds: Counter[int] = field(default_factory=Counter)
    shares: Counter[int] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    copied: int = 0
    offered_s: float = 0.0  # of all actors, at work or not

    def count(self, actor: int, progress: Progress, first: Sequence[Generation]) -> None:
        """An answer of an actor, and what it finished that no other had before."""
        self.seconds[actor] += progress.seconds
        for generation in first:
            self.prompt_tokens += generation.prompt_tokens
            self.cached_tokens += generation.cached_tokens
            self.shares[actor] += generation.response_tokens

    def end(self, seconds: float, actors: int, requests: int, copied: int) -> None:
        """A batch has ended, ``seconds`` after it began."""
        self.offered_s += seconds * actors
        self.requests += requests
        self.copied += copied

    def metrics(self, actors: Sequence[int]) -> dict[str, float]:
        """``rollout/*``; empty when nothing was generated. ``actors``: those that could be given work."""
        if not self.prompt_tokens:
            return {}
        slowest, tokens = max(self.seconds.values()), sum(self.shares.values())
        least = min(self.shares[actor] for actor in actors)
        return {
            "rollout/engine_seconds": slowest,
            "rollout/tokens_per_s": tokens / max(slowest, 1e-9),
            "rollout/prefix_cache_hits": self.cached_tokens / self.prompt_tokens,
            "rollout/idle_share": max(0.0, 1.0 - sum(self.seconds.values()) / max(self.offered_s, 1e-9)),
            "rollout/least_share": least * len(actors) / max(tokens, 1),
            "rollout/copied_share": self.copied / self.requests,
        }
