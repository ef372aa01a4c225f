"""The runs of a grid side by side: lanes with services of their own, each taking the next run that can begin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from agrl.driver.experiments.grid import Cell


class Schedule:
    """What several threads take their runs from: in order, each once the run that it goes on from is finished.

    ``finished``: runs of earlier calls.
    """

    def __init__(self, cells: Sequence[Cell], finished: Collection[Cell] = ()) -> None:
        self._waiting, self._finished, self._stopped = list(cells), set(finished), False
        self._changed = threading.Condition()

    def take(self) -> Cell | None:
        """The next run, waiting for the one before it where need be; None when none is left or ``stop`` was called."""
        with self._changed:
            while self._waiting and not self._stopped:
                for cell in self._waiting:
                    if cell.before is None or cell.before in self._finished:
                        self._waiting.remove(cell)
                        return cell
                self._changed.wait()
            return None

    def finish(self, cell: Cell) -> None:
        """Let begin what goes on from ``cell``."""
        with self._changed:
            self._finished.add(cell)
            self._changed.notify_all()

    def stop(self) -> None:
        """Give out nothing more, and wake who waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def run_side_by_side(
    schedule: Schedule, lanes: int, run: Callable[[int, Cell], None], give_up: Callable[[], None]
) -> None:
    """Call ``run(lane, cell)`` for every cell of the schedule, ``lanes`` at a time, each lane in a thread of its own.

    The first error, or an interrupt, stops all: ``give_up`` must make the calls under way end. It is raised when they
    have.
    """

    def work(lane: int) -> None:
        while (cell := schedule.take()) is not None:
            run(lane, cell)
            schedule.finish(cell)

    if lanes == 1:  # in this thread, where a debugger is
        return work(0)
    with ThreadPoolExecutor(lanes, thread_name_prefix="lane") as threads:
        futures = [threads.submit(work, lane) for lane in range(lanes)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            schedule.stop()
            give_up()
            raise
