"""The steps of a run one after another, or the next batch generated while the learner works on this one.

With ``trainer.max_staleness=1`` generation and training go in lockstep: batch k + 1 is sampled from the weights of
version k while the learner makes version k + 1 of batch k. Both end before the new weights reach the engines, so what
is sampled depends on nothing but seeds and versions: such a run repeats bit for bit.
"""

from __future__ import annotations

from actors.inline_service import InlinePending
from actors.service import Pending
from actors.threads import InThread
from agrl.driver.services.services import Services
from agrl.driver.step import RolloutBatch, StepResult, generate_batch, train_batch


class Pipeline:
    """``steps``: of the run. ``ready``: the batch of the next step, where it has been generated already."""

    def __init__(self, services: Services, steps: int, ready: RolloutBatch | None = None) -> None:
        self._s, self._steps, self.ready = services, steps, ready

    def step(self, step: int) -> StepResult:
        """Run a step; the engines have its weights when it returns. Raises the AgrlError that names what went wrong."""
        batch, self.ready = self.ready or generate_batch(self._s, step), None
        if not self._s.config.trainer.max_staleness or step + 1 == self._steps:
            return train_batch(self._s, batch)
        ahead = self._generate_ahead(step + 1)
        result = train_batch(self._s, batch, ahead)
        self.ready = ahead.result()
        return result

    def _generate_ahead(self, step: int) -> Pending:
        def generate() -> RolloutBatch:
            batch = generate_batch(self._s, step)
            batch.metrics |= batch.clock.metrics("ahead")
            batch.clock = None
            return batch

        if self._s.runtime.mode == "inline":  # for a debugger: one thing after another
            return InlinePending(generate())
        return InThread(generate, "generation")
