"""The comparisons that the page and the end-of-run table share: metrics before and after, by set, tier and segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agrl.report.run_data import Evaluation, RunData

HEADLINE = {
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "good_bad_f1": "Good/bad F1",
    "rule_adherence": "Rule adherence",
    "parse_rate": "Parse rate",
    "right_tier_wrong_verdict": "Right tier, wrong verdict",
}
LOWER_IS_BETTER = frozenset({"right_tier_wrong_verdict"})


@dataclass(frozen=True)
class Change:
    """One metric before and after; either may be missing. ``gain`` > 0: better, < 0: worse, whatever the direction."""

    name: str
    before: float | None
    after: float | None
    lower_is_better: bool = False

    @property
    def delta(self) -> float | None:
        """After minus before; None when one of them is missing."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def gain(self) -> float:
        """The change towards better; 0 when it is unknown or under half of the last digit shown."""
        delta = self.delta or 0.0
        return 0.0 if abs(delta) < 0.0005 else (-delta if self.lower_is_better else delta)


def headline(run: RunData, set_name: str) -> list[Change]:
    """The headline metrics of one set and the verdict accuracy of every criterion."""
    before, after = run.ends(set_name)
    rows = [
        Change(label, _get(before, key), _get(after, key), key in LOWER_IS_BETTER) for key, label in HEADLINE.items()
    ]
    rows += _inner("verdict_accuracy", before, after, lambda name: f"Verdict: {name}")
    return [row for row in rows if row.before is not None or row.after is not None]


def tiers(run: RunData, set_name: str) -> list[tuple[str, dict[str, Change]]]:
    """For every tier: its label and the changes of precision, recall and F1."""
    before, after = run.ends(set_name)
    known = (after or before or {}).get("tier_f1", {})
    return [
        (
            tier_label(run, tier),
            {
                metric: Change(metric, _get(before, f"tier_{metric}", tier), _get(after, f"tier_{metric}", tier))
                for metric in ("precision", "recall", "f1")
            },
        )
        for tier in sorted(known, reverse=True)
    ]


def segments(run: RunData, set_name: str) -> list[tuple[str, int, dict[str, Change]]]:
    """For every segment: its name, its size and the changes of its metrics; the weakest first."""
    before, after = run.ends(set_name)
    sizes = {name: row["n"] for name, row in (after or before or {}).get("segments", {}).items()}
    rows = [
        (
            name,
            n,
            {
                metric: Change(HEADLINE[metric], *(_get(e, "segments", name, metric) for e in (before, after)))
                for metric in ("accuracy", "macro_f1", "rule_adherence", "parse_rate")
            },
        )
        for name, n in sizes.items()
    ]
    return sorted(rows, key=lambda row: row[2]["accuracy"].after or row[2]["accuracy"].before or 0.0)


def confusion(run: RunData, evaluation: Evaluation) -> list[tuple[str, list[tuple[int, float]]]]:
    """For every gold tier, best first: its label, and (count, share of the row) for each stated tier and unparsed."""
    rows = evaluation.get("confusion", [])
    labels = [tier_label(run, str(tier)) for tier in range(len(rows), 0, -1)]
    return [
        (label, [(count, count / sum(row) if sum(row) else 0.0) for count in row])
        for label, row in zip(labels, rows, strict=True)
    ]


def failures(run: RunData, set_name: str) -> Iterator[tuple[str, int, int]]:
    """Reasons why answers did not parse, with their counts before and after."""
    before, after = (e.get("failures", {}) if e else {} for e in run.ends(set_name))
    for reason in sorted(before.keys() | after.keys(), key=lambda r: -before.get(r, 0) - after.get(r, 0)):
        yield reason.replace("_", " "), before.get(reason, 0), after.get(reason, 0)


def tier_label(run: RunData, tier: str) -> str:
    """``4 Excellent`` when the rule book of the run names its tiers, else ``4``."""
    known = {str(number): text for number, text in (run.rulebook.get("tiers") or {}).items()}
    name = known.get(tier, {}).get("name", "") if isinstance(known.get(tier), dict) else ""
    return f"{tier} {name}".strip()


def _inner(key: str, before: Evaluation | None, after: Evaluation | None, label) -> list[Change]:
    names = dict.fromkeys([*((before or {}).get(key) or {}), *((after or {}).get(key) or {})])
    return [Change(label(name), _get(before, key, name), _get(after, key, name)) for name in names]


def _get(evaluation: Evaluation | None, *keys: str) -> float | None:
    node = evaluation
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, int | float) else None
