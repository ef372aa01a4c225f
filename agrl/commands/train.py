"""``agrl train``: reinforcement learning with rule-aware rewards and adaptive guided replay."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train by RL: rule-aware rewards and adaptive guided replay"

DESCRIPTION = """\
Train a model by GRPO with rule-aware rewards and adaptive guided replay.

Settings are words of the form key=value, on top of an experiment (a file under conf/experiment). The run folder gets
the resolved configuration, metrics, samples, checkpoints, the trained model, summary.json and report.html.
"""

EXAMPLES = """\
examples:
  agrl train experiment=agrl_tiny model.path=runs/sft/model run=runs/agrl
  agrl train experiment=agrl_tiny trainer.steps=20 learner.lr=1e-4    change any setting
  agrl train experiment=agrl_tiny algorithm=grpo                      a baseline: grpo, grpo_rrs, grpo_agr, agrl
  agrl train experiment=agrl_tiny ray=inline --debug                  all in one process, for a debugger
  agrl train experiment=agrl_tiny ray=cluster                         join a running Ray cluster
  agrl train --resume runs/agrl                                       go on from the last checkpoint
  agrl train --resume runs/agrl trainer.steps=80                      ... and further
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("train", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with the run in this folder")


def run(args: argparse.Namespace) -> int:
    from agrl.config.compose import load_config, resumed_config
    from agrl.driver.training import train
    from agrl.report.summary import summary_table
    from agrl.report.terminal import terminal_before_log

    config = resumed_config(args.resume, args.overrides) if args.resume else load_config(args.overrides)
    console = terminal_before_log(args.debug)
    folder = train(config, console, resume=args.resume is not None)
    summary_table(console, folder.path)
    return 0
