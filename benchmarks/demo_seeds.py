"""Several demos beside each other: mean and spread of what training changed, as Markdown, and the plot of the README.

for seed in 0 1 2; do agrl demo --seed $seed --out runs/demo-$seed; done
python benchmarks/demo_seeds.py runs/demo-0 runs/demo-1 runs/demo-2 --png docs/demo.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from agrl.report.curves import Line, moving_average, spread_png
from agrl.report.run_data import read_run

METRICS = {
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "rule_adherence": "Rule adherence",
    "parse_rate": "Parse rate",
    "right_tier_wrong_verdict": "Right tier, wrong verdict",
}
CURVES = {"train/rule_adherence": "tier follows from the verdicts", "train/accuracy": "right tier"}
WINDOW = 5  # steps of the moving average


def table(summaries: list[dict]) -> str:
    """Markdown: for each set and metric before, after and the change, mean ± sd over the demos."""
    lines = ["| | set | before | after | change |", "|---|---|---|---|---|"]
    for key, label in METRICS.items():
        for name in summaries[0]["agrl"]:
            before, after = ([s[end][name][key] for s in summaries] for end in ("sft", "agrl"))
            change = [b - a for a, b in zip(before, after, strict=True)]
            lines.append(f"| {label} | {name} | {_spread(before)} | {_spread(after)} | {_spread(change, '+')} |")
    return "\n".join(lines)


def _spread(values: list[float], sign: str = "") -> str:
    return f"{mean(values):{sign}.3f} ± {stdev(values):.3f}"


def plot(runs: list[Path], png: Path) -> None:
    """Training rollouts of all demos, mean and range, smoothed over a few steps."""
    found = [read_run(run) for run in runs]
    curves = {}
    for key, label in CURVES.items():
        series = [run.series(key, "rl") for run in found]
        curves[label] = [Line(label, steps, moving_average(values, WINDOW)) for steps, values in series]
    spread_png(png, {"share of training rollouts": curves}, f"AGRL, {len(runs)} seeds ({WINDOW}-step averages)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of at least two demos")
    parser.add_argument("--png", type=Path, help="write the plot there")
    args = parser.parse_args()
    if len(args.runs) < 2:
        parser.error("a spread needs at least two demos")
    print(table([json.loads((run / "summary.json").read_text()) for run in args.runs]))
    if args.png:
        plot(args.runs, args.png)


if __name__ == "__main__":
    main()
