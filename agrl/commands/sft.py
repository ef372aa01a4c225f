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
  agrl sft --resume runs/sft                                  go on from the last checkpoint
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("sft", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with the run in this folder")


def run(args: argparse.Namespace) -> int:
    from agrl.config.compose import load_config, resumed_config
    from agrl.driver.experiments.sft import supervised
    from agrl.report.terminal import terminal_before_log

    config = resumed_config(args.resume, args.overrides) if args.resume else load_config(args.overrides)
    console = terminal_before_log(args.debug)
    supervised(config, console, resume=args.resume is not None)
    return 0
