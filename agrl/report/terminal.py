"""What a person sees: a console that third-party noise never reaches, progress bars, phases, and error blocks.

Libraries print from C++ threads and child processes, so it is not enough to set Python's log levels: file descriptors 1
and 2 of the process are pointed at a log file, and our own console writes to a copy of the original terminal.
"""

from __future__ import annotations

import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from agrl.errors import AgrlError

PLAIN_WIDTH = 120  # columns when the output is a file or a pipe; rich would assume 80 and cut tables


@dataclass
class _Terminal:
    out: Console
    err: Console
    log_file: Path | None = None
    saved: tuple[int, int] | None = None  # copies of the original file descriptors 1 and 2


_current: _Terminal | None = None


def open_terminal(log_file: Path | None = None, debug: bool = False) -> Console:
    """Send everything that this process and its children print to ``log_file``; return the console for the person.

    With ``debug``, or without a ``log_file``, nothing is redirected: third-party output stays visible and
    a debugger works.
    A second call moves the log to the new file and returns the same console (a demo logs each phase apart).
    """
    global _current
    if log_file is None or debug:
        close_terminal()
        _current = _Terminal(_console(sys.stdout), _console(sys.stderr))
        return _current.out
    if _current is None or _current.saved is None:
        _flush()
        saved = (os.dup(1), os.dup(2))
        # closefd=False: close_terminal closes the copies, after putting them back
        out, err = (_console(os.fdopen(fd, "w", buffering=1, encoding="utf-8", closefd=False)) for fd in saved)
        _current = _Terminal(out, err, saved=saved)
    _flush()
    _current.log_file = Path(log_file)
    _current.log_file.parent.mkdir(parents=True, exist_ok=True)
    with _current.log_file.open("ab") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    return _current.out


def close_terminal() -> None:
    """Put file descriptors 1 and 2 back where ``open_terminal`` found them. Harmless when nothing is redirected."""
    global _current
    if _current is not None and _current.saved is not None:
        _flush()
        for target, copy in zip((1, 2), _current.saved, strict=True):
            os.dup2(copy, target)
            os.close(copy)
    _current = None


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _console(file) -> Console:
    console = Console(file=file, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


def console() -> Console:
    """The console of the person's standard output, redirected or not."""
    return _current.out if _current else _console(sys.stdout)


def error_console() -> Console:
    """The console of the person's standard error, redirected or not."""
    return _current.err if _current else _console(sys.stderr)


def log_file() -> Path | None:
    """Where third-party output goes at the moment; None when it is not redirected."""
    return _current.log_file if _current else None


def error_block(console: Console, error: BaseException, log: Path | None = None) -> None:
    """One readable block: what is wrong, what to do about it, and where the log is."""
    log = log or log_file()
    known = isinstance(error, AgrlError)
    body = Text(str(error) if known else f"{type(error).__name__}: {error}")
    if hint := getattr(error, "hint", ""):
        body.append("\n\nWhat to do: ", style="bold").append(hint)
    elif not known:
        body.append("\n\nThis is a fault in agrl or in a library below it; `--debug` shows the trace.", style="dim")
    if log is not None:
        body.append(f"\n\nLog: {log}", style="dim")
    title = _words(type(error).__name__) if known else "Unexpected error"
    console.print(Panel(body, title=title, title_align="left", border_style="red", padding=(0, 1)))


def _words(name: str) -> str:
    """``WeightSyncError`` -> ``Weight sync error``."""
    return "".join(f" {c.lower()}" if c.isupper() and i else c for i, c in enumerate(name))


def numbers(metrics: Mapping[str, float]) -> str:
    """A short line of named numbers for a progress note: ``accuracy 0.41  reward 0.53  loss 1.2e-03``."""
    return "  ".join(f"{name} {number(value)}" for name, value in metrics.items())


def number(value: float) -> str:
    """A number in at most about seven characters: whole numbers whole, small ones in scientific notation."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}" if isinstance(value, int) or abs(value) >= 10 else f"{value:.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


class Bar(ABC):
    """A running progress display; see ``progress``."""

    @abstractmethod
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count ``amount`` more as done and show ``note`` (the last one given stays)."""


class _RichBar(Bar):
    def __init__(self, display: Progress, task) -> None:
        self._display, self._task = display, task

    def advance(self, amount: int = 1, note: str = "") -> None:
        fields = {"note": escape(note)} if note else {}
        self._display.update(self._task, advance=amount, **fields)


class _PlainBar(Bar):
    """One sober line about every tenth of the way or every ``interval`` seconds, for logs and pipes."""

    def __init__(self, console: Console, description: str, total: int, interval: float) -> None:
        self._console, self._description, self._total, self._interval = console, description, total, interval
        self._done, self._note = 0, ""
        self._start = self._printed_at = time.monotonic()
        self._printed_tenth = 0

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        self._note = note or self._note
        now, tenth = time.monotonic(), 10 * self._done // max(self._total, 1)
        if tenth > self._printed_tenth or now - self._printed_at >= self._interval:
            self._printed_tenth, self._printed_at = tenth, now
            line = f"{self._description}  {self._done}/{self._total}  {duration(now - self._start)}  {self._note}"
            self._console.print(line.rstrip(), markup=False, soft_wrap=True)


@contextmanager
def progress(console: Console, description: str, total: int, interval: float = 30.0) -> Iterator[Bar]:
    """A progress bar of ``total`` units: live on a terminal, a line every ~10 % or ``interval`` seconds otherwise.

    ``with progress(console, "RL", total=40) as bar: ... bar.advance(1, numbers({"accuracy": 0.41}))``
    """
    if not console.is_terminal:
        yield _PlainBar(console, description, total, interval)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="cyan"),
    )
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as display:
        yield _RichBar(display, display.add_task(escape(description), total=total, note=""))


@contextmanager
def phase(console: Console, description: str) -> Iterator[None]:
    """Show that something without a count is under way, then how long it took: ``✓ Starting Ray  6.2 s``."""
    start = time.monotonic()
    try:
        if console.is_terminal:
            with console.status(f"{escape(description)} …"):
                yield
        else:
            yield
    except BaseException:
        console.print(f"✗ {description}  {duration(time.monotonic() - start)}", style="red", markup=False)
        raise
    console.print(f"[green]✓[/green] {escape(description)}  [dim]{duration(time.monotonic() - start)}[/dim]")


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
