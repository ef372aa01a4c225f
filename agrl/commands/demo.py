"""``agrl demo``: from nothing to a trained relevance judge on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "from nothing to a trained relevance judge, on a laptop"

DESCRIPTION = """\
Build a synthetic catalogue and a tiny language model, give it a supervised cold start on the reasoning of a teacher
that does not know the shop's rules, then train it by adaptive guided RL, evaluate it before and after, and write a
report: the real system (Ray actors, vLLM, DeepSpeed) on two CPU cores in about twelve minutes.
"""

EXAMPLES = """\
examples:
  agrl demo
  agrl demo --fresh                                     again, in the place of the one before
  agrl demo --seed 1 --out runs/demo-1
  agrl demo --out runs/grpo algorithm=grpo              the standard baseline instead
  agrl demo --out runs/short sft.steps=200 trainer.steps=10
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("demo", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="delete the finished demo in the run folder first")
    parser.add_argument("--seed", type=int, default=0, help="seed of data, model and training (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from agrl.driver.experiments.demo import demo
    from agrl.report.summary import summary_table
    from agrl.report.terminal import console

    demo(args.out, args.seed, args.overrides, args.debug, args.fresh)
    summary_table(console(), args.out)
    return 0
