"""The command line: instant help, overrides anywhere, errors as one block with an exit code."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from agrl import cli
from agrl.errors import ConfigError, LearnerError


def run_main(monkeypatch, action, argv=("probe",)):
    """``cli.main`` with one command, ``probe``, that does ``action(args)``."""

    def register(subparsers):
        subparsers.add_parser("probe").add_argument("overrides", nargs="*")

    probe = SimpleNamespace(register=register, run=action)
    monkeypatch.setattr(cli, "load_commands", lambda: {"probe": probe})
    return cli.main(list(argv))


def fail(error):
    def action(args):
        raise error

    return action


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    assert "agrl" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    heavy = ("torch", "transformers", "vllm", "ray", "deepspeed", "matplotlib", "numpy", "pyarrow", "hydra")
    code = (
        "import sys; from agrl import cli; cli.build_parser(cli.load_commands()); "
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_taken_out_may_stand_anywhere_too(monkeypatch):
    seen = []
    argv = ["probe", "~data.evaluation.wild", "--debug", "~loss", "run=-x", "a b=c"]
    assert run_main(monkeypatch, lambda args: seen.append(args) or 0, argv) == 0
    assert seen[0].overrides == ["~data.evaluation.wild", "~loss", "run=-x", "a b=c"]


@pytest.mark.parametrize("argv", ["a=1 --debug b=2", "--debug a=1 b=2", "a=1 b=2 --debug"])
def test_overrides_may_stand_anywhere(monkeypatch, argv):
    seen = []
    assert run_main(monkeypatch, lambda args: seen.append(args) or 0, ["probe", *argv.split()]) == 0
    assert (seen[0].overrides, seen[0].debug) == (["a=1", "b=2"], True)


def test_debug_before_the_command(monkeypatch):
    seen = []
    run_main(monkeypatch, lambda args: seen.append(args.debug) or 0, ["--debug", "probe"])
    run_main(monkeypatch, lambda args: seen.append(args.debug) or 0, ["probe"])
    assert seen == [True, False]


def test_an_unknown_option_is_refused_by_name(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, lambda args: 0, ["probe", "--nonsense=3"])
    assert stop.value.code == 2
    assert "--nonsense=3" in capsys.readouterr().err


def test_an_error_is_one_block_without_a_trace(monkeypatch, capsys):
    assert run_main(monkeypatch, fail(ConfigError("trainer.stps: no such key", "did you mean steps?"))) == 1
    shown = capsys.readouterr().err
    assert "Config error" in shown and "trainer.stps" in shown and "did you mean steps?" in shown
    assert "Traceback" not in shown


def test_debug_shows_the_trace(monkeypatch, capsys):
    assert run_main(monkeypatch, fail(ConfigError("wrong")), ["probe", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_says_how_to_see_more(monkeypatch, capsys):
    assert run_main(monkeypatch, fail(KeyError("x"))) == 1
    shown = capsys.readouterr().err
    assert "KeyError" in shown and "--debug" in shown and "Traceback" not in shown


def test_interrupting_is_not_an_error_report(monkeypatch, capsys):
    assert run_main(monkeypatch, fail(KeyboardInterrupt())) == 130
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "Terminated"), (signal.SIGHUP, 129, "terminal"), (signal.SIGINT, 130, "Interrupted")],
)
@pytest.mark.parametrize("comes_out_as", [None, LearnerError("learner-0 died")])
def test_a_signal_stops_with_its_exit_code_and_the_way_to_go_on(monkeypatch, capsys, number, code, word, comes_out_as):
    def action(args):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as stop:
            error = comes_out_as or stop  # actors that got the signal as well may fail first
            error.hint = "go on with `agrl train --resume runs/[a]`"
            raise error from None

    assert run_main(monkeypatch, action) == code
    shown = capsys.readouterr().err
    assert word in shown and "go on with `agrl train --resume runs/[a]`" in shown
    assert "died" not in shown and "Traceback" not in shown


def test_a_full_disk_and_a_read_only_place_are_no_unexpected_errors(monkeypatch, capsys, tmp_path):
    assert run_main(monkeypatch, fail(OSError(errno.ENOSPC, "No space left on device"))) == 1
    shown = capsys.readouterr().err
    assert "Disk error" in shown and "no space is left on the disk at /" in shown and "Unexpected" not in shown
    assert run_main(monkeypatch, fail(PermissionError(errno.EACCES, "Permission denied", "/x/y"))) == 1
    assert "/x/y cannot be used: Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("log", "err"), [("/dev/full", "pipe"), ("/dev/full", "/dev/full"), ("log", "/dev/full")], ids=str
)
def test_what_cannot_be_logged_is_told_and_what_cannot_be_told_has_its_exit_code(tmp_path, log, err):
    code = """
import sys
from types import SimpleNamespace
from agrl import cli
from agrl.report.terminal import open_terminal

def run(args):
    open_terminal(sys.argv[1])
    print("noise that stays in the buffer")
    {}["the trouble"]

cli.load_commands = lambda: {"probe": SimpleNamespace(register=lambda s: s.add_parser("probe"), run=run)}
sys.exit(cli.main(["probe"]))
"""
    log = log if log.startswith("/") else tmp_path / log
    with open(err, "w") if err.startswith("/") else nullcontext(subprocess.PIPE) as stderr:
        command = [sys.executable, "-c", code, str(log)]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=buffered)
    assert done.returncode == 1
    if err == "pipe":
        assert "KeyError: 'the trouble'" in done.stderr
        assert "Traceback" in done.stderr, "the trace has no other place"


def test_no_command_prints_the_help(capsys):
    assert cli.main([]) == 2
    assert "agrl demo" in capsys.readouterr().out
