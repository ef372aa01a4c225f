"""Work beside the main thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

from actors.service import Pending


class InThread(Pending):
    """The result of a function that runs in a thread of its own. The thread does not keep the process from ending."""

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self._future: Future = Future()
        Thread(target=self._run, args=(function,), name=name, daemon=True).start()

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            self._future.set_result(function())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        return self._future.result(timeout)

    def done(self) -> bool:
        """Whether ``result`` need not wait."""
        return self._future.done()

    def on_done(self, notice: Callable[[], Any]) -> None:
        self._future.add_done_callback(lambda _: notice())
