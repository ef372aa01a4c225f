"""``agrl dpo``: direct preference optimization on pairs sampled from the start model."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "direct preference optimization, the offline baseline"

DESCRIPTION = """\
Sample N responses a prompt from the start model (pass@N), pair right ones with worse ones by the rule-aware reward, and
train on the pairs without sampling again: what to compare RL with. Evaluates before and after, as `agrl train` does.
"""

EXAMPLES = """\
examples:
  agrl dpo experiment=agrl_tiny model.path=runs/sft/model run=runs/dpo
  agrl dpo experiment=agrl_tiny model.path=runs/sft/model run=runs/dpo dpo.beta=0.3 dpo.samples=16
  agrl dpo --resume runs/dpo                                  go on from the last checkpoint
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("dpo", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with the run in this folder")


def run(args: argparse.Namespace) -> int:
    from agrl.config.compose import load_config, resumed_config
    from agrl.driver.experiments.dpo import train_preferences
    from agrl.report.summary import summary_table
    from agrl.report.terminal import terminal_before_log

    config = resumed_config(args.resume, args.overrides) if args.resume else load_config(args.overrides)
    console = terminal_before_log(args.debug)
    folder = train_preferences(config, console, resume=args.resume is not None)
    summary_table(console, folder.path)
    return 0
