"""The terminal: third-party noise goes to the log, people see only ours; progress is sober in a pipe."""

import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from agrl.errors import DataError, WeightSyncError
from agrl.report.terminal import duration, error_block, number, phase, progress

NOISY = """
import os, sys
from agrl.report.terminal import close_terminal, error_console, log_file, open_terminal
console = open_terminal(sys.argv[1] + "/a/first.log")
print("python noise"); os.system("echo child noise"); os.write(2, b"native noise\\n")
console.print("for the person")
assert open_terminal(sys.argv[1] + "/second.log") is console
print("later noise"); error_console().print("a complaint")
assert str(log_file()).endswith("second.log")
close_terminal()
print("after")
"""


def test_noise_goes_to_the_log_and_ours_to_the_person(tmp_path):
    done = subprocess.run([sys.executable, "-c", NOISY, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "for the person\nafter\n"
    assert done.stderr == "a complaint\n"
    first = (tmp_path / "a" / "first.log").read_text()
    assert all(word in first for word in ("python noise", "child noise", "native noise"))
    assert (tmp_path / "second.log").read_text() == "later noise\n"


def test_debug_redirects_nothing(tmp_path):
    code = "import sys; from agrl.report.terminal import *; open_terminal(sys.argv[1], debug=True); print('seen')"
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True)
    assert done.stdout == "seen\n" and not log.exists()


def plain_console():
    return Console(file=StringIO(), width=100)


def test_progress_in_a_pipe_is_a_line_each_tenth():
    console = plain_console()
    with progress(console, "RL", total=40) as bar:
        for step in range(40):
            bar.advance(1, f"accuracy {step}")
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("RL  4/40") and lines[0].endswith("accuracy 3")
    assert lines[-1].startswith("RL  40/40")


def test_progress_prints_when_time_passes_between_tenths():
    console = plain_console()
    with progress(console, "slow", total=1000, interval=0.0) as bar:
        bar.advance(1, "note")
    assert "slow  1/1000" in console.file.getvalue()


def test_progress_on_a_terminal_ends_full():
    console = Console(file=StringIO(), width=100, force_terminal=True)
    with progress(console, "RL", total=3) as bar:
        for _ in range(3):
            bar.advance(1, "loss [1]")
    assert "3/3" in console.file.getvalue() and "loss [1]" in console.file.getvalue()


def test_a_phase_says_how_it_ended():
    console = plain_console()
    with phase(console, "Starting [all]"):
        pass
    with pytest.raises(ValueError), phase(console, "Breaking"):
        raise ValueError
    good, bad = console.file.getvalue().splitlines()
    assert good.startswith("✓ Starting [all]") and bad.startswith("✗ Breaking")


def test_an_error_block_holds_message_hint_and_log(tmp_path):
    console = plain_console()
    error_block(console, WeightSyncError("actor 1 is at version [3]", "look at its log"), tmp_path / "driver.log")
    shown = " ".join(console.file.getvalue().replace("│", " ").split())
    assert "Weight sync error" in shown and "actor 1 is at version [3]" in shown
    assert "What to do: look at its log" in shown and "driver.log" in shown.replace(" ", "")


def test_an_error_without_a_hint_has_no_empty_advice():
    console = plain_console()
    error_block(console, DataError("no rows"))
    assert "What to do" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (9.96, "10.0 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (12345, "12,345"),
        (0.41, "0.410"),
        (1e-5, "1.0e-05"),
        (0.0, "0"),
        (float("nan"), "–"),
        (123.45, "123.5"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text
