"""``agrl compare``: two judges on the same examples, example by example."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compare two models, or what they have answered, example by example"

DESCRIPTION = """\
Judge B against judge A on the same examples. An example is Good when B's tier is nearer to gold than A's, Bad when
A's is nearer, else Same; an answer that does not parse is farther than any tier. By set and by segment:

  good, same, bad   how many examples of each kind
  win rate          Good / (Good + Bad), with a 95 % (Wilson) interval: above 0.5, B is the better one
  sign p            how often chance alone splits Good and Bad as unevenly (exact sign test)
  acc., McNemar p   their accuracies, and the exact McNemar test of the difference

A and B are each the folder of a run or a model, which is loaded and judges its sets (data.evaluation), or a file that
`agrl eval --predictions FILE` has written, for which nothing is started. A plain model is judged under the
configuration of the run that it is compared with. docs/compare.md explains the numbers and the file.
"""

EXAMPLES = """\
examples:
  agrl compare runs/sft runs/agrl                          did reinforcement learning help, and where?
  agrl compare models/tiny runs/agrl --html compare.html   a page with the examples where they differ most
  agrl compare models/a models/b experiment=agrl_tiny      plain models, on the sets of an experiment

  agrl eval runs/agrl --predictions agrl.jsonl             keep the answers ...
  agrl compare sft.jsonl agrl.jsonl --json result.json     ... and compare them at once, without a model
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``agrl compare`` to the command line."""
    parser = subparsers.add_parser("compare", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("a", metavar="A", type=Path, help="a run, a model, or a prediction file: the one to beat")
    parser.add_argument("b", metavar="B", type=Path, help="a run, a model, or a prediction file: the one in question")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the models, as for `agrl eval`")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers and the examples there")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page there")
    parser.add_argument(
        "--examples",
        metavar="N",
        type=_count,
        default=20,
        help="keep N examples where B gains most, and N where it loses most (default: 20)",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of examples, found {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Compare and print; the exit code says only that it worked, not who is better."""
    from agrl.driver.evaluation.compare_models import compare_judges, is_file_of_predictions
    from agrl.report.terminal import open_terminal, place_for_logs

    files_alone = is_file_of_predictions(args.a) and is_file_of_predictions(args.b)
    logs = Path("runs/compare") if files_alone else place_for_logs(Path("runs/compare"))
    console = open_terminal(None if files_alone else logs / "logs" / "compare.log", args.debug)
    compare_judges(args.a, args.b, args.overrides, console, args.json, args.html, args.examples, logs)
    return 0
