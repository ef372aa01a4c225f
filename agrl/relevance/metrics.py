"""How good a judge is: accuracy, F1, verdicts, adherence to the rules, by tier and by segment.

A response that does not parse counts as wrong everywhere: it is a prediction of no tier. The definitions agree with
scikit-learn's; each metric is explained in docs/metrics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agrl.errors import DataError
from agrl.relevance.records import GOOD_TIERS, TIERS, Example, Judgement
from agrl.relevance.rules import RuleBook

_ROW = {tier: row for row, tier in enumerate(TIERS)}
SHARES = ("accuracy", "macro_f1", "rule_adherence", "parse_rate", "right_tier_wrong_verdict")
SHARES += ("good_bad_f1", "good_f1", "bad_f1", "tier_f1", "tier_precision", "tier_recall", "verdict_accuracy")
_UNPARSED = len(TIERS)  # the last column of a confusion matrix


@dataclass(frozen=True)
class Prediction:
    """One response of a model under evaluation. ``judgement`` is None when unparsed; ``failure`` then says why."""

    example: Example
    text: str
    judgement: Judgement | None
    failure: str = ""


def evaluate(book: RuleBook, predictions: Sequence[Prediction]) -> dict:
    """All metrics of a set of predictions, as plain numbers ready for JSON. Raises DataError when there are none.

    ``confusion``: rows are gold tiers 4, 3, 2, 1; columns stated tiers 4, 3, 2, 1 and unparsed. ``macro_f1``: mean over
    the tiers present in gold. ``verdict_accuracy`` holds the criteria with at least one gold verdict. Judgements of the
    tier alone (``Order.tier_only``, baselines) have no verdicts: what is measured on verdicts is then None or empty.
    """
    if not predictions:
        raise DataError("there are no predictions to evaluate", hint="check that the evaluation set has rows")
    confusion = _confusion(predictions)
    precision, recall, f1 = _per_class(confusion)
    return {
        **_headline(book, predictions),
        "tier_f1": _by_tier(f1),
        "tier_precision": _by_tier(precision),
        "tier_recall": _by_tier(recall),
        "tier_support": {str(tier): int(confusion[row].sum()) for tier, row in _ROW.items()},
        **_good_bad(confusion),
        "verdict_accuracy": _verdict_accuracy(book, predictions),
        "right_tier_wrong_verdict": _share(predictions, _right_tier_wrong_verdict) if _reasoned(predictions) else None,
        "failures": dict(Counter(p.failure or "unknown" for p in predictions if p.judgement is None).most_common()),
        "confusion": confusion.tolist(),
        "segments": _segments(book, predictions),
    }


def shares(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The shares of a whole evaluation by name, for curves: "macro_f1", "tier_f1/4"; without counts and segments.

    What could not be measured is not in it.
    """
    found: dict[str, float] = {}
    for name in SHARES:
        value = evaluation.get(name)
        parts = {f"{name}/{part}": v for part, v in value.items()} if isinstance(value, Mapping) else {name: value}
        found |= {part: float(v) for part, v in parts.items() if v is not None}
    return found


def _headline(book: RuleBook, predictions: Sequence[Prediction]) -> dict:
    """The metrics that are given for the whole set and for every segment."""
    confusion = _confusion(predictions)
    return {
        "n": len(predictions),
        "accuracy": float(np.trace(confusion) / len(predictions)),
        "macro_f1": _macro_f1(confusion),
        "rule_adherence": _share(predictions, lambda p: _adheres(book, p)) if _reasoned(predictions) else None,
        "parse_rate": _share(predictions, lambda p: p.judgement is not None),
    }


def _confusion(predictions: Sequence[Prediction]) -> np.ndarray:
    """Counts int64 [4, 5]: gold tier by stated tier, the last column for unparsed."""
    counts = np.zeros((len(TIERS), len(TIERS) + 1), dtype=np.int64)
    for prediction in predictions:
        if prediction.example.tier not in _ROW:
            raise DataError(
                f"example {prediction.example.id!r} has the gold tier {prediction.example.tier!r}",
                hint="gold tiers are 4, 3, 2 and 1; `agrl data validate FILE` finds such rows",
            )
        judgement = prediction.judgement
        counts[_ROW[prediction.example.tier], _UNPARSED if judgement is None else _ROW[judgement.tier]] += 1
    return counts


def _per_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 [C] of counts [C, C + 1]; 0 where a denominator is 0, as scikit-learn has it."""
    right = np.diag(confusion).astype(np.float64)
    gold = confusion.sum(axis=1)
    stated = confusion[:, : len(confusion)].sum(axis=0)
    return right / np.maximum(stated, 1), right / np.maximum(gold, 1), 2 * right / np.maximum(gold + stated, 1)


def _macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the classes present in gold."""
    _, _, f1 = _per_class(confusion)
    return float(f1[confusion.sum(axis=1) > 0].mean())


def _good_bad(confusion: np.ndarray) -> dict[str, float]:
    """The four tiers merged into good and bad: F1 of each, and their mean over the classes present in gold."""
    good = np.array([tier in GOOD_TIERS for tier in TIERS])
    merged = np.array(
        [[confusion[rows][:, :-1][:, columns].sum() for columns in (good, ~good)] for rows in (good, ~good)]
    )
    unparsed = np.array([[confusion[rows, _UNPARSED].sum()] for rows in (good, ~good)])
    merged = np.hstack([merged, unparsed])
    _, _, f1 = _per_class(merged)
    return {"good_bad_f1": _macro_f1(merged), "good_f1": float(f1[0]), "bad_f1": float(f1[1])}


def _verdict_accuracy(book: RuleBook, predictions: Sequence[Prediction]) -> dict[str, float]:
    accuracy = {}
    for name in book.criteria if _reasoned(predictions) else ():
        known = [p for p in predictions if name in p.example.verdicts]
        if known:
            accuracy[name] = _share(known, lambda p, name=name: p.judgement is not None and not _wrong(p, name))
    return accuracy


def _reasoned(predictions: Sequence[Prediction]) -> bool:
    """Whether verdicts were stated, or should have been: False where every answer is a tier alone."""
    stated = [p.judgement.verdicts for p in predictions if p.judgement is not None]
    return not stated or any(stated)


def _wrong(prediction: Prediction, name: str) -> bool:
    """Whether a parsed response states another verdict than gold, where there is gold."""
    gold = prediction.example.verdicts.get(name)
    return gold is not None and prediction.judgement.verdicts.get(name) != gold


def _right_tier_wrong_verdict(prediction: Prediction) -> bool:
    if prediction.judgement is None or prediction.judgement.tier != prediction.example.tier:
        return False
    return any(_wrong(prediction, name) for name in prediction.example.verdicts)


def _adheres(book: RuleBook, prediction: Prediction) -> bool:
    judgement = prediction.judgement
    return judgement is not None and book.decide(judgement.verdicts) == judgement.tier


def _segments(book: RuleBook, predictions: Sequence[Prediction]) -> dict[str, dict]:
    segments: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        segments.setdefault(prediction.example.segment, []).append(prediction)
    return {name: _headline(book, segments[name]) for name in sorted(segments)}


def _share(predictions: Sequence[Prediction], holds) -> float:
    return sum(map(holds, predictions)) / len(predictions)


def _by_tier(values: np.ndarray) -> dict[str, float]:
    return {str(tier): float(values[row]) for tier, row in _ROW.items()}
