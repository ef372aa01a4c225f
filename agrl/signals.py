"""Signals that ask a command to stop: Ctrl-C, SIGTERM (`kill`, a scheduler, a container that is stopped), SIGHUP."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SAID = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated.", signal.SIGHUP: "The terminal is gone."}
PATIENCE_S = {signal.SIGINT: 1.0}  # what closing may take before another one ends it by force: people press it twice
OTHERS_S = 10.0  # and schedulers send several


class _State:
    first: signal.Signals | None = None
    at = 0.0
    held_back = False
    most_s = math.inf  # that a block may hold it back
    overdue = False
    last_words: Callable[[], None] | None = None


@contextlib.contextmanager
def stopping_signals(last_words: Callable[[], None] | None = None) -> Iterator[None]:
    """While the block runs, the first of the signals raises KeyboardInterrupt, so that everything is closed in order.

    More of them are not to disturb that (`timeout` and schedulers send several at once); a Ctrl-C more than a second
    later, or another signal more than ten, ends this process and all that it started at once, after ``last_words``. A
    signal that was ignored before (`nohup`) stays ignored. In another thread than the main one nothing changes: there
    Python has no signals.
    """
    _State.first, _State.last_words = None, last_words
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SAID}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextlib.contextmanager
def held_back(most_s: float = math.inf) -> Iterator[Callable[[], bool]]:
    """The block is done to its end; a signal that comes meanwhile stops the command then, or after ``most_s`` seconds.

    Gives what tells whether there was one.
    """
    before = _State.first
    _State.held_back, _State.most_s, _State.overdue = most_s > 0, most_s, False
    try:
        yield lambda: _State.first is not before
    finally:
        _State.held_back = False
    if _State.first is not before:
        raise KeyboardInterrupt


def received() -> signal.Signals | None:
    """The signal that stopped the command; None while there was none."""
    return _State.first


def _stop(number: int, frame: FrameType | None) -> None:
    if _State.first is None:
        _State.first, _State.at = signal.Signals(number), time.monotonic()
        if not _State.held_back:
            raise KeyboardInterrupt
        if _State.most_s < math.inf:
            timer = threading.Timer(_State.most_s, _remind)
            timer.daemon = True
            timer.start()
    elif _State.overdue and _State.held_back:
        _State.held_back = False
        raise KeyboardInterrupt
    elif time.monotonic() - _State.at > PATIENCE_S.get(number, OTHERS_S):
        _end_all(number)


def _remind() -> None:
    """The block has had its time: the main thread, which alone has signals, gets this one again."""
    if _State.held_back:
        _State.overdue = True
        signal.pthread_kill(threading.main_thread().ident, _State.first)


def _end_all(number: int) -> None:
    import psutil

    if _State.last_words:
        _State.last_words()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(128 + number)
