"""The ``agrl`` command: finds the command, gives it its arguments, and turns errors into one readable block.

Every command is a module of ``agrl.commands`` with two functions: ``register(subparsers)``, which adds its parser and
imports nothing heavy, and ``run(args) -> int``, which does the work and returns the exit code. A command that takes
configuration overrides adds a positional ``overrides`` (``nargs="*"``); they may stand anywhere among the options.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from agrl.commands import is_override
from agrl.errors import AgrlError
from agrl.signals import SAID, received, stopping_signals

COMMANDS = (
    *("demo", "data", "model", "plan", "sft", "ground", "dpo", "train"),
    *("eval", "compare", "reproduce", "report", "check", "doctor"),
)

DESCRIPTION = """\
Train a language model to judge how relevant a product is to a shopper's query:
supervised cold start, then GRPO with rule-aware rewards and adaptive guided replay.
"""

EXAMPLES = """\
from nothing to a trained judge, on a laptop:
  agrl demo                                      everything below at a small size, ending in runs/demo/report.html

the same, step by step:
  agrl doctor                                    is everything here that this needs?
  agrl data make --out data/catalogue            build the bundled synthetic catalogue
  agrl data stats data/catalogue/train.parquet   what is in a file
  agrl model make --data data/catalogue/seed.parquet --out models/tiny
                                                 a tiny model; or `agrl model get`; or any Hugging Face causal LM
  agrl sft experiment=agrl_tiny run=runs/sft     cold start on reference reasoning
  agrl ground experiment=agrl_tiny model.path=runs/sft/model run=runs/ground
                                                 its own readings with gold verdicts after them: the most a label gives
  agrl train experiment=agrl_tiny model.path=runs/sft/model run=runs/agrl
                                                 adaptive guided RL; key=value overrides any setting
  agrl eval runs/agrl                            metrics on held-out sets, by segment
  agrl compare runs/sft runs/agrl                who is nearer to gold, example by example
  agrl report runs/agrl                          write runs/agrl/report.html again
  agrl check runs/agrl                           was any prompt lost, or trained twice?

`agrl COMMAND --help` explains a command.
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps hand-made line breaks and knows ``--debug`` at every level."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        # SUPPRESS: a sub-command's default must not overwrite a --debug given before it
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show full traces and third-party output"
        )


def load_commands() -> dict[str, ModuleType]:
    """The command modules by name, in the order of the help text."""
    return {name: importlib.import_module(f"agrl.commands.{name}") for name in COMMANDS}


def build_parser(modules: dict[str, ModuleType]) -> Parser:
    """The parser of the whole command line."""
    parser = Parser(prog="agrl", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"agrl {version('agrl')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for module in modules.values():
        module.register(subparsers)
    return parser


def parse_args(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse ``argv``; exits with code 2 and a usage line when it cannot be understood."""
    args, extra = parser.parse_known_args(argv)
    # argparse gives up on positionals that follow an option; overrides are recognisable, so they are taken anywhere
    if hasattr(args, "overrides"):
        args.overrides += [word for word in extra if is_override(word)]
        extra = [word for word in extra if not is_override(word)]
    if extra:
        parser.error(f"not understood by `agrl {args.command}`: {' '.join(extra)} (see `agrl {args.command} --help`)")
    args.debug = getattr(args, "debug", False)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0 success, 1 error, 2 usage, 128 + N stopped by signal N (130 Ctrl-C, 143 SIGTERM, 129
    SIGHUP, 141 nobody reads the output).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _find_own_tools()
    modules = load_commands()
    parser = build_parser(modules)
    if not argv:
        parser.print_help()
        return 2
    args = parse_args(parser, argv)
    with stopping_signals(_last_words):
        try:
            return _run(modules[args.command], args)
        finally:
            _leave_output()


def _run(command: ModuleType, args: argparse.Namespace) -> int:
    try:
        return command.run(args)
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except BrokenPipeError as error:  # the reader of our output left (`| head`): not an error, and nobody to tell
        if received():
            return _stopped(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        # what a signal ended may fail in another way first, when its actors got the signal too
        return _stopped(error) if received() else _failed(error, args.debug)


def _find_own_tools() -> None:
    """Put this interpreter's folder on PATH: ninja and ray are found also when the environment is not activated."""
    own = os.path.dirname(sys.executable)
    path = os.environ.get("PATH", "")
    if own not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([own, path])


def _stopped(stop: BaseException) -> int:
    """Say what stopped the command and, where there is a run, how to go on; returns the exit code."""
    from agrl.report import terminal

    number = received() or signal.SIGINT
    with contextlib.suppress(OSError):  # the terminal may be gone
        console = terminal.error_console()
        console.print(f"\n{SAID[number]}", style="yellow", markup=False)
        if hint := _hint(stop):
            console.print(hint, markup=False, soft_wrap=True)
    return 128 + number


def _last_words() -> None:
    """Before the process ends by force."""
    from agrl.report import terminal

    with contextlib.suppress(OSError):
        terminal.error_console().print(
            "\nEnded at once: what was being written is not there. A run goes on from its last whole checkpoint "
            "(--resume).",
            style="yellow",
            markup=False,
        )


def _hint(error: BaseException | None) -> str:
    """How to go on, as the run has told it to the exception or to one that it came from."""
    while error is not None:
        if hint := getattr(error, "hint", ""):
            return hint
        error = error.__cause__ or error.__context__
    return ""


def _failed(error: Exception, debug: bool) -> int:
    """Show an error and return the exit code; the whole trace goes to the log, or to the person with ``--debug``."""
    from agrl.disk import explained
    from agrl.report import terminal

    shown = error if isinstance(error, AgrlError) else explained(error) or error
    console = terminal.error_console()
    with contextlib.suppress(OSError):  # the person first: the log may be what cannot be written
        if debug:
            console.print_exception(show_locals=False)
        terminal.error_block(console, shown)
    if not debug and not (_trace_to_log() or isinstance(shown, AgrlError)):
        with contextlib.suppress(OSError):
            console.print_exception(show_locals=False)
    return 1


def _trace_to_log() -> bool:
    """Write the trace of the exception being handled to the log; whether that worked."""
    from agrl.report import terminal

    if terminal.log_file() is None:
        return True
    try:  # file descriptor 2 is the log by now
        traceback.print_exc()
        sys.stderr.flush()
    except OSError:
        return False
    return True


def _leave_output() -> None:
    from agrl.report import terminal

    terminal.flush()


if __name__ == "__main__":
    sys.exit(main())
