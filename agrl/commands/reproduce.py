"""``agrl reproduce``: the paper's table, every baseline and ablation, from one command."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from agrl.commands import is_override

HELP = "the paper's table: all methods, starts and seeds, with intervals"

DESCRIPTION = """\
Run every method from several supervised starts with several seeds, and write table.json, results.md and results.html:
means with 95% intervals, paired comparisons corrected for their number, learning curves with bands.

Without experiment=... the bundled catalogue is made in OUT/data (its seed is --first-seed). A grid that was stopped
goes on where it was: finished runs are kept. The services stay up from run to run.
"""

EXAMPLES = """\
examples:
  agrl reproduce --quick                                            2 seeds of one start, the main methods
  agrl reproduce --out runs/reproduce                               2 starts x 5 seeds, all methods
  agrl reproduce --out runs/confirm --first-seed 100                fresh seeds, a fresh catalogue
  agrl reproduce --out runs/two --methods grpo agrl trainer.steps=20
  agrl reproduce --out runs/labels --methods sft_verdicts ground --labels 1000 8000     by the number of labels
  agrl reproduce --out runs/esci experiment=agrl_esci_tiny --seeds 3 --starts 1
"""
QUICK = ("majority", "tfidf_logistic", "sft", "grpo", "grpo_rrs", "grpo_agr", "agrl")


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("reproduce", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("runs/reproduce"), help="default: %(default)s"
    )
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="some methods only (default: all)")
    parser.add_argument("--starts", type=int, default=None, metavar="N", help="supervised starts (default: 2)")
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="seeds of a method and start (default: 5)")
    parser.add_argument("--control-seeds", type=int, default=1, metavar="N", help="seeds of a control (default: 1)")
    parser.add_argument(
        "--labels", type=int, nargs="+", metavar="N", help="every method with N labels of the pool, the rest without"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, metavar="N", help="seeds and catalogue are numbered from it"
    )
    parser.add_argument(
        "--lanes",
        type=int,
        default=None,
        metavar="N",
        help="runs at a time, each on actors of its own (default: one a CPU, at most 4; one where there are GPUs)",
    )
    parser.add_argument("--quick", action="store_true", help="1 start, 2 seeds, the main methods")


def run(args: argparse.Namespace) -> int:
    from agrl.driver.experiments.grid import METHODS, Grid
    from agrl.driver.experiments.reproduce import reproduce
    from agrl.report.grid_page import write_results
    from agrl.report.grid_sheets import grid_table
    from agrl.report.progress import phase
    from agrl.report.terminal import terminal_before_log

    words = args.methods or ()  # --methods takes all that follows
    named = [word for word in words if not is_override(word)]
    overrides = args.overrides + [word for word in words if is_override(word)]
    grid = Grid(
        methods=tuple(named or (QUICK if args.quick else METHODS)),
        starts=args.starts or (1 if args.quick else 2),
        seeds=args.seeds or (2 if args.quick else 5),
        control_seeds=args.control_seeds,
        first_seed=args.first_seed,
        labels=tuple(args.labels or ()),
    )
    console = terminal_before_log(args.debug)
    reproduce(args.out, grid, overrides, console, args.lanes)
    words = sys.argv[1:] if sys.argv[1:2] == ["reproduce"] else ["reproduce", *overrides]
    with phase(console, "Writing the results"):
        table = write_results(args.out, shlex.join(["agrl", *words]))
    grid_table(console, table)
    for name in ("results.html", "results.md", "table.json"):
        console.print(f"{args.out / name}", soft_wrap=True)
    return 0
