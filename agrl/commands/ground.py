"""``agrl ground``: supervised training on the policy's own readings with gold after them."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train on the model's own readings, with gold verdicts after them"

DESCRIPTION = """\
The start model (model.path) answers every pair of data.train; its own reading of query and product stays, gold
verdicts and tier take the place of what it concluded, and what the rule book's check finds sound is a reference.
The start model is trained on these (as sft says). No teacher and no hint is needed: labels alone.
In a second round (ground.rounds=2) the trained model answers again, and pairs that nobody has judged
(data.unlabelled) give references, too: the answers that follow the rules, where enough of them say the same tier.

The run folder keeps the references (references-1.parquet, ...); RUN/model is an ordinary Hugging Face folder.
"""

EXAMPLES = """\
examples:
  agrl ground experiment=agrl_tiny model.path=runs/sft/model run=runs/ground
  agrl ground experiment=agrl_tiny model.path=runs/sft/model run=runs/g2 ground.rounds=2 data.unlabelled=more.parquet
  agrl ground experiment=agrl_tiny model.path=runs/sft/model run=runs/ground ground.gold=tier   gold tiers alone
  agrl ground --resume runs/ground                                    go on from the last checkpoint
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("ground", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with the run in this folder")


def run(args: argparse.Namespace) -> int:
    from agrl.config.compose import load_config, resumed_config
    from agrl.driver.experiments.ground import train_grounded
    from agrl.report.summary import summary_table
    from agrl.report.terminal import terminal_before_log

    config = resumed_config(args.resume, args.overrides) if args.resume else load_config(args.overrides)
    console = terminal_before_log(args.debug)
    folder = train_grounded(config, console, resume=args.resume is not None)
    summary_table(console, folder.path)
    return 0
