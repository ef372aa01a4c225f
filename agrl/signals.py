"""Signals that ask a command to stop: Ctrl-C, SIGTERM (`kill`, a scheduler, a container that is stopped), SIGHUP."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SAID = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Terminated.", signal.SIGHUP: "The terminal is gone."}
PATIENCE_S = 10.0  # what closing may take before another signal ends it by force


class _State:
    first: signal.Signals | None = None
    at = 0.0
    held_back = False


@contextlib.contextmanager
def stopping_signals() -> Iterator[None]:
    """While the block runs, the first of the signals raises KeyboardInterrupt, so that everything is closed in order.

    More of them are not to disturb that (`timeout` and schedulers send several at once); one that comes later than
    ``PATIENCE_S`` ends this process and all that it started at once. A signal that was ignored before (`nohup`) stays
    ignored. In another thread than the main one nothing changes: there Python has no signals.
    """
    _State.first = None
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
def held_back() -> Iterator[None]:
    """The block is done to its end; a signal that comes meanwhile stops the command then."""
    _State.held_back = True
    before = _State.first
    try:
        yield
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
        if _State.held_back:
            return
        raise KeyboardInterrupt
    if time.monotonic() - _State.at > PATIENCE_S:
        _end_all(number)


def _end_all(number: int) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(128 + number)
