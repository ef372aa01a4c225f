"""The reward actors as one: work spread over them, a time limit on each piece, the dead replaced, nothing lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from actors.pool import NoPlace, ServicePool
from actors.runtime import Runtime, wait_any
from actors.scoring import RewardWorker, Scorable
from actors.service import Pending, ServiceDied
from agrl.errors import AgrlError, RewardError
from agrl.relevance.records import Order, RewardMode, Score
from agrl.relevance.reward import Scorer, invalid_score
from agrl.relevance.rulebook import read_rulebook

TIMEOUT = "timeout"
START_LIMIT_S = 300.0


@dataclass(eq=False)
class Ticket:
    """A piece of work handed in, and its scores once they are there."""

    items: Sequence[Scorable]
    pending: Pending | None = None
    ended: bool = False  # whether ``pending`` need not be waited for
    scores: list[Score] | None = None


@dataclass
class _Queue:
    """What one actor still has to do, in its order. ``since``: when the first piece became the first (monotonic s).

    ``left``: responses in all of it, kept because counting them for each new piece would cost their square.
    """

    tickets: deque[Ticket] = field(default_factory=deque)
    since: float = 0.0
    left: int = 0

    def append(self, ticket: Ticket) -> None:
        if not self.tickets:
            self.since = time.monotonic()
        self.tickets.append(ticket)
        self.left += len(ticket.items)

    def popleft(self) -> Ticket:
        ticket = self.tickets.popleft()
        self.left -= len(ticket.items)
        return ticket


class RewardPool:
    """``actors`` scorers of one rule book, given as its YAML text.

    An actor that dies is replaced (each up to ``restarts`` times) and its work sent again. One that needs more than
    ``timeout_s`` seconds for a piece of work is replaced too; that piece's scores are invalid with reason "timeout".
    """

    def __init__(
        self,
        runtime: Runtime,
        book_source: str,
        order: Order,
        mode: RewardMode,
        *,
        actors: int = 1,
        restarts: int = 3,
        timeout_s: float = 60.0,
        log_dir: Path | None = None,
        worker: type = RewardWorker,
    ) -> None:
        self._names = Scorer(read_rulebook(book_source), order, mode).names
        self._pool = ServicePool(
            runtime,
            "reward",
            worker,
            (book_source, order, mode),
            size=actors,
            restarts=restarts,
            timeout_s=START_LIMIT_S,
            log_dir=log_dir,
        )
        self._queues = [_Queue() for _ in range(actors)]
        self._ended: SimpleQueue[int] = SimpleQueue()  # actors that have finished a piece
        self._timeout_s = timeout_s
        self._timeouts = 0
        self._is_ready = False
        self._lock = threading.RLock()  # generation, guidance and an evaluation may ask at the same time

    def ready(self) -> None:
        """Wait until every scorer is built. Raises RuleBookError or ActorError."""
        self._pool.ready()
        self._is_ready = True

    def submit(self, items: Sequence[Scorable]) -> Ticket:
        """Hand in work to the actor that has the least left; ``collect`` gives its scores."""
        if not self._is_ready:
            self.ready()  # the time limit is for scoring, not for starting
        with self._lock:
            self._take_finished()
            if self._pool.absent:
                self._pool.returned()
            index, ticket = self._least_busy(), Ticket(items)
            self._send(index, ticket)
            self._queues[index].append(ticket)
        return ticket

    def _least_busy(self) -> int:
        return min(self._pool.present, key=lambda i: self._queues[i].left)

    def collect(self, ticket: Ticket) -> list[Score]:
        """The scores of handed-in work, one an item and in order; waits for them.

        Raises ActorError when an actor is lost too often, RewardError when scoring itself fails.
        """
        while (behind := self._behind(ticket)) is not None:
            index, first, pending, limit = behind
            came = wait_any([pending], max(0.0, limit - time.monotonic()))
            with self._lock:
                if first.scores is None and first.pending is pending:  # else another thread has seen to it
                    (self._take if came else self._give_up)(index)
        return ticket.scores

    def _behind(self, ticket: Ticket) -> tuple[int, Ticket, Pending, float] | None:
        """What to wait for: the actor that has a ticket, the first piece of its work, and until when; None: scored."""
        with self._lock:
            if ticket.scores is not None:
                return None
            index, queue = next((i, queue) for i, queue in enumerate(self._queues) if ticket in queue.tickets)
            return index, queue.tickets[0], queue.tickets[0].pending, queue.since + self._timeout_s

    def score(self, items: Sequence[Scorable]) -> list[Score]:
        """``submit`` and ``collect`` in one."""
        return self.collect(self.submit(items))

    def _send(self, index: int, ticket: Ticket) -> None:
        ticket.pending = pending = self._pool.services[index].call("score", ticket.items)
        ticket.ended = False

        def notice() -> None:
            if ticket.pending is pending:  # not that of a lost actor, whose work was sent again
                ticket.ended = True
                self._ended.put(index)

        pending.on_done(notice)

    def _take_finished(self) -> None:
        """Asks nobody: as many pieces come as there are groups, and there may be many actors."""
        while not self._ended.empty():
            index = self._ended.get()
            while self._queues[index].tickets and self._queues[index].tickets[0].ended:
                self._take(index)

    def _take(self, index: int) -> None:
        """Read the first piece of an actor's work, which is finished or lost."""
        first = self._queues[index].tickets[0]
        try:
            scores = first.pending.result()
        except ServiceDied as death:
            return self._replace(index, death)
        except AgrlError:
            raise
        except Exception as error:
            raise RewardError(
                f"{self._pool.name(index)} failed: {type(error).__name__}: {error}",
                hint="a scorer must give a score for any text; its log has the whole story",
            ) from error
        self._finish_first(index, scores)

    def _give_up(self, index: int) -> None:
        """The first piece of work takes too long: its scores are invalid, what waits behind it goes to a new actor."""
        first = self._queues[index].tickets[0]
        self._timeouts += len(first.items)
        self._finish_first(index, [invalid_score(self._names, TIMEOUT) for _ in first.items])
        cause = TimeoutError(f"{self._pool.name(index)} needed more than {self._timeout_s:g} s to score")
        self._replace(index, cause, counts=False)

    def _finish_first(self, index: int, scores: list[Score]) -> None:
        queue = self._queues[index]
        queue.popleft().scores = scores
        queue.since = time.monotonic()

    def _replace(self, index: int, cause: Exception, counts: bool = True) -> None:
        queue = self._queues[index]
        try:
            self._pool.replace(index, cause, counts)
        except NoPlace:  # the others do its work
            while queue.tickets:
                ticket, heir = queue.popleft(), self._least_busy()
                self._send(heir, ticket)
                self._queues[heir].append(ticket)
            return
        queue.since = time.monotonic()
        for ticket in queue.tickets:
            self._send(index, ticket)

    def metrics(self) -> dict[str, float]:
        """Actors replaced, and responses without a score because of the time limit, since the start."""
        return {"actors/reward_restarts": float(sum(self._pool.replaced)), "reward/timeouts": float(self._timeouts)}

    def gauges(self) -> dict[str, dict[str, float]]:
        """What the driver knows of each actor, by name; its queue in pieces of work that are not finished."""
        waiting = [{"queue_length": float(len(queue.tickets))} for queue in self._queues]
        return {name: of_it | more for (name, of_it), more in zip(self._pool.gauges().items(), waiting, strict=True)}

    def close(self) -> None:
        """End all actors."""
        self._pool.close()
