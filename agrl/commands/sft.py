"""``agrl sft``: the supervised cold start."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "supervised cold start on reference judgements"

DESCRIPTION = """\
Fine-tune a model on reference judgements (data.seed): the start of every RL run.
The result is an ordinary Hugging Face folder, RUN/model.
"""

EXAMPLES = """\
examples:
  agrl sft experiment=agrl_tiny run=runs/sft
  agrl sft experiment=agrl_tiny run=runs/sft sft.steps=200 sft.lr=1e-3
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("sft", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")


def run(args: argparse.Namespace) -> int:
    from agrl.config.compose import load_config
    from agrl.driver.sft import supervised
    from agrl.report.terminal import open_terminal

    config = load_config(args.overrides)
    console = open_terminal(Path(config.run) / "logs" / "driver.log", args.debug)
    supervised(config, console)
    return 0
