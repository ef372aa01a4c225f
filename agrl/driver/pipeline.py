"""The steps of a run: one after another, or generation beside training, in lockstep or each as it is ready.

With ``trainer.max_staleness=1`` generation and training go in lockstep: batch k + 1 is sampled from the weights of
version k while the learner makes version k + 1 of batch k. Both end before the new weights reach the engines, so what
is sampled depends on nothing but seeds and versions: such a run repeats bit for bit. ``trainer.overlap=free``: see
``agrl.driver.free_running``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from actors.inline_service import InlinePending
from actors.service import Pending
from actors.threads import InThread
from agrl.config.schema import Overlap
from agrl.driver.free_running import FreeRunning
from agrl.driver.services.services import Services
from agrl.driver.step import RolloutBatch, StepResult, generate_batch, train_batch


class Pipeline:
    """``steps``: of the run. ``ready``: the batch of the next step, where it has been generated already."""

    def __init__(self, services: Services, steps: int, ready: RolloutBatch | None = None) -> None:
        self._s, self._steps, self.ready = services, steps, ready

    def step(self, step: int, beside: Callable[[], Any] | None = None) -> StepResult:
        """Run a step; the engines have its weights when it returns. ``beside`` uses those before: beside the learner
        where generation goes beside it, else first.

        Raises the AgrlError that names what went wrong.
        """
        lockstep = self._s.config.trainer.max_staleness and step + 1 < self._steps
        if beside and not lockstep:
            beside()
        batch, self.ready = self.ready or generate_batch(self._s, step), None
        if not lockstep:
            return train_batch(self._s, batch)
        ahead = self._generate_ahead(step + 1, beside)
        result = train_batch(self._s, batch, ahead)
        self.ready = ahead.result()
        return result

    @contextmanager
    def halted(self) -> Iterator[RolloutBatch | None]:
        """What is ahead of training, for a checkpoint."""
        yield self.ready

    def finish(self) -> list[dict[str, Any]]:
        """The last step is done; returns rows for the ledger."""
        return self._s.replay.call("finish", self._steps).result()

    def _generate_ahead(self, step: int, first: Callable[[], Any] | None) -> Pending:
        def generate() -> RolloutBatch:
            if first:
                first()
            batch = generate_batch(self._s, step)
            batch.metrics |= batch.clock.metrics("ahead")
            batch.clock = None
            return batch

        if self._s.runtime.mode == "inline":  # for a debugger: one thing after another
            return InlinePending(generate())
        return InThread(generate, "generation")


def open_pipeline(services: Services, steps: int, first: int = 0, ahead: Any = None) -> Pipeline | FreeRunning:
    """The steps of a run from ``first`` on. ``ahead``: what ``halted`` gave when the run was interrupted."""
    if services.config.trainer.overlap == Overlap.free:
        return FreeRunning(services, steps, first, ahead)
    return Pipeline(services, steps, ahead)
