"""A learner rank and a replay actor that end their own process with SIGKILL where a file says so: once each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from learner.outgoing import Outgoing
from learner.rank import LearnerRank
from replay.core import ReplayCore

SECOND = 1  # bucket, or weight
FOLDER = "AGRL_TEST_DOOM"  # in the environment: of the files


def doom(*where: str) -> None:
    """Let somebody die at each of these: PHASE-VERSION-RANK, of "train", "snapshot", "broadcast" and "send", or
    METHOD-STEP of the replay actor, "sample" and "observe"."""
    for place in where:
        (Path(os.environ[FOLDER]) / place).touch()


def spared() -> list[str]:
    """Where nobody has died of those that were doomed."""
    return [file.name for file in Path(os.environ[FOLDER]).iterdir()]


def _die(where: str) -> None:
    file = Path(os.environ[FOLDER]) / where
    if file.exists():
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingReplay(ReplayCore):
    """Dies when it has done its work, before it answers."""

    def sample(self, n, step, *how):
        found = super().sample(n, step, *how)
        _die(f"sample-{step}")
        return found

    def observe(self, groups, step):
        found = super().observe(groups, step)
        _die(f"observe-{step}")
        return found


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
        _die(f"{phase}-{self.trained}-{self.rank}")
