"""``agrl eval``: the metrics of a model on held-out sets."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "evaluate a model on held-out sets, by segment"

DESCRIPTION = """\
Judge every example of the configured sets (data.evaluation) greedily through vLLM and print all metrics.
RUN is the folder of a run (its own model and configuration are used) or of any Hugging Face model.
"""

EXAMPLES = """\
examples:
  agrl eval runs/agrl                                                the model of a run, on that run's sets
  agrl eval models/qwen experiment=agrl_tiny                         any model, on the sets of an experiment
  agrl eval runs/agrl data.max_evaluation=200 --json result.json
  agrl eval runs/agrl --baselines data/esci/train.parquet            beside majority and TF-IDF baselines
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("eval", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("model", metavar="RUN", type=Path, help="folder of a run, or of a model")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; docs/configuration.md lists all")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all metrics there")
    parser.add_argument(
        "--predictions", metavar="FILE", type=Path, help="write every judgement there, a JSON object a line"
    )
    parser.add_argument(
        "--baselines",
        metavar="FILE",
        type=Path,
        help="train a majority and a TF-IDF baseline on these examples, beside it",
    )


def run(args: argparse.Namespace) -> int:
    from agrl.driver.evaluation.evaluate_model import evaluate_model, is_run
    from agrl.report.terminal import open_terminal, place_for_logs

    own = [args.model] if is_run(args.model) else []  # a model that is no run is only read
    folder = place_for_logs(*own, Path("runs/eval"))
    console = open_terminal(folder / "logs" / "eval.log", args.debug)
    evaluate_model(args.model, args.overrides, console, folder, args.json, args.predictions, args.baselines)
    return 0
