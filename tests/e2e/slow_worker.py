"""A scorer for tests of the reward pool, in a module that imports nothing heavy: it starts in other processes."""

import os
import time

from actors.scoring import RewardWorker


class SlowWorker(RewardWorker):
    """Takes 50 ms a response, and for ever over the text "hang"."""

    def score(self, items):
        for _, text, _ in items:
            time.sleep(3600 if text == "hang" else 0.05)
        return super().score(items)

    def pid(self) -> int:
        return os.getpid()
