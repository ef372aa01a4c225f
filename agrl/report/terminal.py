"""What a person sees: a console that third-party noise never reaches, and error blocks.

Libraries print from C++ threads and child processes, so it is not enough to set Python's log levels: file descriptors 1
and 2 of the process are pointed at a log file, and our own console writes to a copy of the original terminal.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from agrl.errors import AgrlError
from agrl.report.plain import PlainConsole, visible

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
    found = terminal_before_log()
    log_to(log_file)
    return found


def terminal_before_log(debug: bool = False) -> Console:
    """The console for the person, of a command that has a log only from ``log_to`` on: its folder may be refused."""
    global _current
    if debug:
        return open_terminal(debug=True)
    if _current is None or _current.saved is None:
        flush()
        saved = (os.dup(1), os.dup(2))
        # closefd=False: close_terminal closes the copies, after putting them back
        out, err = (_console(os.fdopen(fd, "w", buffering=1, encoding="utf-8", closefd=False)) for fd in saved)
        _current = _Terminal(out, err, saved=saved)
    return _current.out


def log_to(log_file: str | Path) -> None:
    """Begin the log, or move it; nothing with ``debug`` or where no terminal was opened. Raises OSError."""
    if _current is None or _current.saved is None:
        return
    flush()
    log_file = Path(log_file)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    _current.log_file = log_file


def place_for_logs(*folders: Path) -> Path:
    """The first of the folders in whose ``logs`` files can be written; a new temporary folder where there is none."""
    for folder in folders:
        try:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / "logs") as probe:
                probe.write(b"?")
            return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="agrl-"))


def close_terminal() -> None:
    """Put file descriptors 1 and 2 back where ``open_terminal`` found them. Harmless when nothing is redirected."""
    global _current
    if _current is not None and _current.saved is not None:
        flush()
        for target, copy in zip((1, 2), _current.saved, strict=True):
            os.dup2(copy, target)
            os.close(copy)
    _current = None


def flush() -> None:
    """Write out what Python still holds, or give it up where it cannot be written: the disk is full, the terminal gone.

    Kept, it would fail again at every later flush, the last of which makes the exit code 120.
    """
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            stream.flush()


def _console(file) -> Console:
    console = PlainConsole(file)
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
    body = Text(visible(str(error) if known else f"{type(error).__name__}: {error}"))
    if hint := getattr(error, "hint", ""):
        body.append("\n\nWhat to do: ", style="bold").append(visible(hint))
    if not known:
        body.append("\n\nThis is a fault in agrl or in a library below it; `--debug` shows the trace.", style="dim")
    if log is not None:
        body.append(visible(f"\n\nLog: {log}"), style="dim")
    title = _words(type(error).__name__) if known else "Unexpected error"
    console.print(Panel(body, title=title, title_align="left", border_style="red", padding=(0, 1)))


def _words(name: str) -> str:
    """``WeightSyncError`` -> ``Weight sync error``."""
    return "".join(f" {c.lower()}" if c.isupper() and i else c for i, c in enumerate(name))
