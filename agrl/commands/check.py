"""``agrl check``: prove from a run folder that nothing was lost and nothing trained twice."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "prove from a run folder that no prompt was lost or trained twice"

DESCRIPTION = """\
Every prompt that a run draws has one outcome: trained in a step, dropped or given back, with the reason. The run writes
them to ledger.jsonl. This compares that ledger with the metrics and the last checkpoint: every draw has ended once or
is under way in the checkpoint, every step was trained on what its metrics say. It works on a run that was killed, and
ends with exit code 1 where something is wrong.
"""

EXAMPLES = """\
examples:
  agrl check runs/agrl
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("check", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder, such as runs/agrl")


def run(args: argparse.Namespace) -> int:
    from agrl.driver.run.ledger_check import check_ledger
    from agrl.report.terminal import open_terminal

    console = open_terminal(debug=args.debug)
    found = check_ledger(args.folder)
    console.print(f"{args.folder}: {found.draws:,} prompts drawn in {found.steps:,} steps", markup=False)
    for outcome, prompts in sorted(found.outcomes.items(), key=lambda item: -item[1]):
        console.print(f"  {prompts:>9,} {outcome}", markup=False)
    if found.under_way:
        console.print(f"  {found.under_way:>9,} under way in the last checkpoint", markup=False)
    for problem in found.problems:
        console.print(f"WRONG: {problem}", markup=False)
    if not found.problems:
        console.print("Nothing was lost, and nothing trained twice.")
    return 1 if found.problems else 0
