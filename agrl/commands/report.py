"""``agrl report``: (re)write the report of a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write report.html of a run folder and print its summary"

DESCRIPTION = """\
Read what a run has written and make one self-contained page of it: learning curves, reward components,
keep / guide / drop reasons, confusion matrices before and after, segments, trajectories, time by phase.
It works on a run that is still going, and on one that died.
"""

EXAMPLES = """\
examples:
  agrl report runs/agrl
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``agrl report`` to the command line."""
    parser = subparsers.add_parser("report", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("folder", metavar="RUN", type=Path, help="a run folder, such as runs/agrl")


def run(args: argparse.Namespace) -> int:
    """Write the page and print the summary."""
    from agrl.report.page import write_report
    from agrl.report.summary import summary_table
    from agrl.report.terminal import open_terminal

    console = open_terminal(debug=args.debug)
    write_report(args.folder)
    summary_table(console, args.folder)
    return 0
