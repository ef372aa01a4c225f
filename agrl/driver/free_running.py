"""Generation and training each as they are ready (``trainer.overlap=free``), at most ``trainer.max_staleness`` apart.

*Generation*, a thread: admits prompts while there is room, takes finished groups as they come, decides, and lets those
that need it be guided beside the rest, until a batch is full. *Training*: takes the next full batch, learns, and
publishes weights, which the engines take between two decoding steps. Room (AReaL, arXiv 2505.24298, section 5.1): with
all that has been accepted or is running trained in order, nothing is trained more than ``max_staleness`` versions after
it was begun.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from actors.threads import InThread
from agrl.clock import Clock
from agrl.driver.generation.draw import draw
from agrl.driver.generation.flow import Flow, Prompts
from agrl.driver.generation.guide import guide
from agrl.driver.services.services import Services
from agrl.driver.step import (
    GENERATION,
    RolloutBatch,
    StepResult,
    finished_batch,
    own_rollouts,
    prompts_wanted,
    refuse_unscored,
    train_batch,
)
from agrl.relevance.records import ScoredGroup
from replay.core import GuideOutcome
from replay.decisions import Decision
from replay.outcomes import Outcome


@dataclass
class Filling:
    """The batch of ``step`` so far: what came, what was decided of it, and the groups with guided rollouts mixed in,
    None as long as a group is being guided."""

    step: int
    sampled: list[ScoredGroup] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    mixed: list[ScoredGroup | None] = field(default_factory=list)
    guided: dict[str, GuideOutcome] = field(default_factory=dict)

    def copy(self) -> Filling:
        """As it is now: this one will get more."""
        lists = list(self.sampled), list(self.decisions), list(self.mixed)
        return Filling(self.step, *lists, dict(self.guided))

    @property
    def kept(self) -> int:
        return sum(decision.kind != "drop" for decision in self.decisions)

    @property
    def unguided(self) -> list[int]:
        """The places of groups that are being guided."""
        return [place for place, group in enumerate(self.mixed) if group is None]


@dataclass
class Ahead:
    """What generation is ahead of training, for a checkpoint. ``full``: batches that wait for guidance alone.
    ``running``, and guidance: to be begun anew, with the same seeds."""

    ready: list[RolloutBatch]
    filling: Filling
    running: Prompts
    full: list[Filling] = field(default_factory=list)


class FreeRunning:
    """``first``: the step to begin with, of ``steps``. ``ahead``: what a checkpoint held."""

    def __init__(self, services: Services, steps: int, first: int = 0, ahead: Ahead | None = None) -> None:
        self._s, self._steps = services, steps
        self._trained, self._version = first, services.learner.version
        self._flow, self._begun = Flow(services), ahead.running if ahead else []
        self._ready: list[RolloutBatch] = ahead.ready if ahead else []
        self._full: list[Filling] = ahead.full if ahead else []
        self._filling = ahead.filling if ahead else Filling(first)
        self._guiding: list[tuple[InThread, Filling, int]] = []  # and the place of the group
        self._clock, self._stopped = Clock(), False
        self._turn = threading.Lock()  # held while a group is taken: in between, all that is ahead is as it seems
        self._more = threading.Condition()
        self._generation = InThread(self._generate, "generation")
        self._generation.on_done(self._tell)

    # ---- training -------------------------------------------------------------------------------------------------

    def step(self, step: int, beside: Callable[[], Any] | None = None) -> StepResult:
        """Train on the next batch and publish its weights, not before ``beside``, which uses the old ones, has ended.

        Raises the AgrlError that names what went wrong, in generation as well.
        """
        clock = Clock(*GENERATION)
        with clock("wait"):
            batch = self._next()
        using = InThread(beside, "beside") if beside else None
        result = train_batch(self._s, self._without_stale(replace(batch, clock=clock)), using)
        with self._more:
            self._trained, self._version = step + 1, self._s.learner.version
        self._flow.wake()  # there is room for more
        return result

    def _next(self) -> RolloutBatch:
        with self._more:
            while not self._ready:
                if self._generation.done():
                    self._generation.result()
                self._more.wait()
            return self._ready.pop(0)

    def _without_stale(self, batch: RolloutBatch) -> RolloutBatch:
        """Of groups that are too old after all, nothing is trained: another batch went before."""
        stale = [group for group in batch.groups if self._s.learner.version - oldest(group) > self._most]
        if stale:
            names = [group.example.id for group in stale]
            self._s.replay.call("drop", names, batch.step, "stale").result()
        groups = [group for group in batch.groups if not any(group is old for old in stale)]
        return replace(batch, groups=groups, metrics=batch.metrics | {"staleness/dropped": float(len(stale))})

    @property
    def _most(self) -> int:
        return self._s.config.trainer.max_staleness

    @contextmanager
    def halted(self) -> Iterator[Ahead | None]:
        """What is ahead, which does not change meanwhile; for a checkpoint."""
        with self._turn, self._more:
            full = [filling.copy() for filling in self._full]
            yield Ahead(list(self._ready), self._filling.copy(), [*self._begun, *self._flow.running], full)

    def finish(self) -> list[dict[str, Any]]:
        """Stop generating; returns the ledger's rows of what is given back."""
        self._stopped = True
        self._flow.wake()
        self._generation.result()
        self._flow.stop()
        return self._s.replay.call("finish", self._steps).result()

    # ---- generation -----------------------------------------------------------------------------------------------

    def _generate(self) -> None:
        with self._turn:
            self._flow.add(self._begun)
            self._begun = []
            for filling in (*self._full, self._filling):
                for place in filling.unguided:
                    self._guide(filling, place)
        while (self._filling.step < self._steps or self._full) and not self._stopped:
            with self._turn:
                self._admit()
            with self._clock("rollout" if len(self._flow) or self._guiding else "idle"):
                group = self._flow.next()
            with self._turn:
                if group is not None:
                    self._take(group)
                if not prompts_wanted(self._s.config, self._filling.decisions):
                    self._full.append(self._filling)
                    self._filling = Filling(self._filling.step + 1)
                self._mix()

    def _admit(self) -> None:
        room = self.room()
        if room > 0:
            with self._clock("sample"):
                examples = draw(self._s, room, self._filling.step, apart=True)
            self._flow.add([(example, self._filling.step) for example in examples])

    def room(self) -> int:
        """How many prompts more may be under way."""
        t, rollout = self._s.config.trainer, self._s.config.rollout
        batch, running = t.prompts_per_step, len(self._flow)
        accepted = self._filling.step * batch + self._filling.kept  # since the first step
        together = 2 * rollout.actors * rollout.max_concurrent // t.rollouts_per_prompt
        due = min(self._most + self._trained + 1, self._steps) * batch
        return min(max(together, 1) - running, due - (accepted + running))

    def _take(self, group: ScoredGroup) -> None:
        """A finished group into the batch, or its prompt back, when it would be too old by the time it is trained."""
        step = self._filling.step
        self._flow.taken(group)
        with self._more:
            version = self._version + step - self._trained  # when the batch will be trained, at most
        if version - oldest(group) > self._most:
            self._s.replay.call("give_back", [group.example.id], step, "stale").result()
            return
        with self._clock("guide"):
            outcome = Outcome.of(group, self._s.config.reward.mode)
            decisions = self._s.replay.call("observe", [outcome], step).result()
        filling = self._filling
        filling.sampled.append(group)
        filling.decisions += decisions
        filling.mixed.append(None)
        self._guide(filling, len(filling.sampled) - 1)

    def _guide(self, filling: Filling, place: int) -> None:
        """Beside everything else: rollouts under hints take as long as others, and come one after another."""
        group, decision = filling.sampled[place], filling.decisions[place]
        if decision.kind != "guide":
            filling.mixed[place] = group
            return
        guiding = InThread(lambda: guide(self._s, [group], [decision], filling.step), "guidance")
        self._guiding.append((guiding, filling, place))
        guiding.on_done(self._flow.wake)

    def _mix(self) -> None:
        """Take what guidance has found, and pass on the batches that are whole."""
        ended = [each for each in self._guiding if each[0].done()]
        for each in ended:
            self._guiding.remove(each)
            guiding, filling, place = each
            (filling.mixed[place],), guided = guiding.result()
            filling.guided |= guided
        while self._full and not self._full[0].unguided:
            self._pass_on(self._full.pop(0))

    def _pass_on(self, filling: Filling) -> None:
        refuse_unscored(filling.sampled)
        batch = finished_batch(self._s, filling.step, filling.sampled, filling.mixed, filling.decisions, filling.guided)
        batch.metrics |= self._clock.metrics("ahead")
        self._clock = Clock()
        with self._more:
            self._ready.append(batch)
            self._more.notify_all()

    def _tell(self) -> None:
        with self._more:
            self._more.notify_all()


def oldest(group: ScoredGroup) -> int:
    """The version of the oldest weights that sampled any token of the group that the policy sampled for it."""
    return min((r.versions[0][0] for r in own_rollouts(group)), default=1 << 62)
