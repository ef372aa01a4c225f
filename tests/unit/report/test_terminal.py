"""The terminal: third-party noise goes to the log, people see only ours; errors are one block."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from agrl.errors import DataError, WeightSyncError
from agrl.report.terminal import error_block, place_for_logs

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


def test_the_log_begins_when_its_folder_is_known(tmp_path):
    code = """
import sys
from agrl.report.terminal import log_to, terminal_before_log
console = terminal_before_log()
print("before"); console.print("for the person")
log_to(sys.argv[1] + "/run/driver.log")
print("after"); console.print("for the person as well")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == ["before", "for the person", "for the person as well"]
    assert (tmp_path / "run" / "driver.log").read_text() == "after\n"


def test_logs_go_to_the_first_place_that_can_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    assert place_for_logs(tmp_path / "run", tmp_path / "else") == tmp_path / "run"
    assert place_for_logs(Path("/proc/run"), tmp_path / "else") == tmp_path / "else"
    nowhere = place_for_logs(Path("/proc/run"), tmp_path / "file" / "below")
    assert nowhere.is_dir() and "agrl-" in nowhere.name
    nowhere.rmdir()


def plain_console():
    return Console(file=StringIO(), width=100)


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
