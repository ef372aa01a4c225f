"""How far things are: progress bars, phases, numbers in a few characters, and a board of several runs side by side."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from agrl.report.plain import PlainConsole, visible

LOG_WIDTH = 120


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
        fields = {"note": visible(note)} if note else {}
        self._display.update(self._task, advance=amount, **fields)


class _SilentBar(Bar):
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing: the caller prints what there is to say."""


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
            self._console.print(Text(visible(line.rstrip())), soft_wrap=True)


@contextmanager
def progress(console: Console | None, description: str, total: int, interval: float = 30.0) -> Iterator[Bar]:
    """A progress bar of ``total`` units: live on a terminal, a line every ~10 % or ``interval`` seconds otherwise.
    Nothing without a console.

    ``with progress(console, "RL", total=40) as bar: ... bar.advance(1, numbers({"accuracy": 0.41}))``
    """
    if console is None:
        yield _SilentBar()
        return
    if isinstance(console, Lane):
        yield console.bar(description, total)
        return
    if not console.is_terminal:
        yield _PlainBar(console, description, total, interval)
        return
    with _display(console) as display:
        yield _RichBar(display, display.add_task(visible(description), total=total, note=""))


def _display(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="cyan", markup=False),
    )
    return Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)


@contextmanager
def phase(console: Console, description: str) -> Iterator[None]:
    """Show that something without a count is under way, then how long it took: ``✓ Starting Ray  6.2 s``."""
    start = time.monotonic()
    try:
        if isinstance(console, Lane):
            console.bar(description, total=None)
            yield
        elif console.is_terminal:
            with console.status(Text(f"{visible(description)} …")):
                yield
        else:
            yield
    except BaseException:
        console.print(Text(f"✗ {visible(description)}  {duration(time.monotonic() - start)}", style="red"))
        raise
    console.print(tick(description, duration(time.monotonic() - start)))


def tick(what: str, seconds: str, more: str = "") -> Text:
    """A line that says what is done, how long it took, and what came of it."""
    line = Text.assemble(("✓", "green"), f" {visible(what)}  ", (seconds, "dim"))
    return line.append(f"  {visible(more)}") if more else line


class Lane(PlainConsole):
    """The console of what runs on one of several lanes: its text goes to a log, its progress to its row of the board.

    Made by ``board``.
    """

    def __init__(self, log: IO[str], display: Progress | None) -> None:
        super().__init__(log, width=LOG_WIDTH)
        self._display, self._title = display, ""
        self._row = display.add_task("", total=None, note="", visible=False) if display else None

    def begin(self, title: str) -> None:
        """Name what runs on the lane from now on; "": nothing."""
        self._title = title
        self.rule(title, style="dim")
        self.bar("", total=None)

    def bar(self, description: str, total: int | None) -> Bar:
        """The lane's row begins anew, as the bar of ``total`` units, or of something without a count."""
        if self._display is None:
            return _PlainBar(self, description, total or 0, interval=30.0)
        text = visible("  ".join(part for part in (self._title, description) if part))
        self._display.reset(self._row, total=total, description=text, note="", visible=bool(self._title))
        return _RichBar(self._display, self._row)


@contextmanager
def board(
    console: Console, description: str, total: int, done: int, logs: Sequence[Path]
) -> Iterator[tuple[Bar, list[Lane]]]:
    """The display of ``total`` runs, ``done`` of them finished before, on lanes side by side, a log each.

    A bar for all, and under it a row for each lane; without a terminal only what the caller prints.
    """
    with ExitStack() as stack:
        display = stack.enter_context(_display(console)) if console.is_terminal else None
        whole = display.add_task(visible(description), total=total, completed=done, note="") if display else None
        lanes = []
        for log in logs:
            log.parent.mkdir(parents=True, exist_ok=True)
            lanes.append(Lane(stack.enter_context(log.open("a", buffering=1, encoding="utf-8")), display))
        yield (_RichBar(display, whole) if display else _SilentBar()), lanes


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
