"""A learner rank that ends its own process with SIGKILL where a file beside its model says so: once each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from learner.outgoing import Outgoing
from learner.rank import LearnerRank

SECOND = 1  # bucket, or weight


def doom(model: Path, *where: str) -> None:
    """Let a rank die at each of these: "PHASE-VERSION-RANK", of "train", "snapshot", "broadcast" and "send"."""
    for place in where:
        (model / f"die-{place}").touch()


def spared(model: Path) -> list[str]:
    """Where nobody has died of those that were doomed."""
    return [file.name for file in model.glob("die-*")]


class DyingRank(LearnerRank):
    """Sends a tiny model in many buckets."""

    trained = 0  # the version of its weights

    def start(self, settings):
        Outgoing.bucket_bytes = 40_000
        return super().start(settings)

    def train_policy(self, *batch):
        *_, self.trained, _ = batch
        return self._mortally(super().train_policy, *batch)

    def train_sft(self, *batch):
        return self._mortally(super().train_sft, *batch)

    def _mortally(self, train, *batch):
        backward = self.model.backward

        def dying(loss):
            backward(loss)
            self._die("train")  # gradients are there, the update is not

        self.model.backward = dying
        try:
            return train(*batch)
        finally:
            del self.model.backward
            self.trained += 1

    def snapshot(self):
        found = super().snapshot()
        self._die("snapshot")
        return found

    def parcel(self):
        found = super().parcel()
        if found.number == SECOND:
            self._die("broadcast")
        return found

    def send_weights(self, *how):
        weights = self.outgoing._weights

        def dying(*what) -> Iterator:
            for number, weight in enumerate(weights(*what)):
                if number == SECOND:
                    self._die("send")
                yield weight

        self.outgoing._weights = dying
        try:
            return super().send_weights(*how)
        finally:
            del self.outgoing._weights

    def _die(self, phase: str) -> None:
        doom = Path(self.settings.model_path) / f"die-{phase}-{self.trained}-{self.rank}"
        if doom.exists():
            doom.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
