"""Two judges, A and B, on the same examples: who is nearer to gold, how often, and whether chance explains it.

An example is *Good* when B's tier is nearer to gold than A's, *Bad* when A's is, else *Same*. The answers are paired,
so the tests are those of paired data. They take examples as independent of one another; p-values of segments are not
corrected for there being many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from agrl.errors import DataError
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import TIERS, Example, Product

CONFIDENCE = 0.95
_NAMED = 3  # ids that an error names


@dataclass(frozen=True)
class Pair:
    """The answers of A and B to one example of a set."""

    set_name: str
    a: Prediction
    b: Prediction

    @property
    def example(self) -> Example:
        return self.a.example

    @property
    def gain(self) -> int:
        """Tiers by which B is nearer to gold than A, -4 to 4: Good above 0, Bad under 0."""
        return distance(self.a) - distance(self.b)


def distance(prediction: Prediction) -> int:
    """|stated tier - gold tier|, 0 to 3; 4 for an answer that does not parse, which is farther than any tier."""
    if prediction.judgement is None:
        return len(TIERS)
    return abs(prediction.judgement.tier - prediction.example.tier)


def compare(pairs: Sequence[Pair], shown: int = 20) -> dict[str, Any]:
    """Everything about two judges, as plain values ready for JSON.

    ``sets``: set name -> ``tally`` with ``segments``: segment -> ``tally``. ``good_examples`` and ``bad_examples``: at
    most ``shown`` examples each, those where B gains and loses most, with both answers.
    """
    sets = {
        name: tally(rows) | {"segments": {segment: tally(part) for segment, part in sorted(_by_segment(rows).items())}}
        for name, rows in _grouped(pairs, lambda pair: pair.set_name).items()
    }
    ordered = _interleaved(pairs)
    good = sorted((pair for pair in ordered if pair.gain > 0), key=lambda pair: -pair.gain)
    bad = sorted((pair for pair in ordered if pair.gain < 0), key=lambda pair: pair.gain)
    return {
        "sets": sets,
        "good_examples": [_row(pair) for pair in good[:shown]],
        "bad_examples": [_row(pair) for pair in bad[:shown]],
    }


def tally(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Counts and tests of some pairs.

    ``win_rate``: Good / (Good + Bad), with ``win_interval``, the Wilson score interval at 95 % (Wilson 1927, JASA 22);
    both None when every example is Same. ``sign_p``: exact two-sided sign test of Good against Bad.
    ``mcnemar_p``: exact McNemar test of the two accuracies, two-sided binomial on the examples that only one of the
    judges has right (McNemar 1947, Psychometrika 12). A test without any such example gives 1.
    """
    good, bad = sum(pair.gain > 0 for pair in pairs), sum(pair.gain < 0 for pair in pairs)
    right = [(distance(pair.a) == 0, distance(pair.b) == 0) for pair in pairs]
    only_a, only_b = right.count((True, False)), right.count((False, True))
    interval = binomtest(good, good + bad).proportion_ci(CONFIDENCE, "wilson") if good + bad else None
    return {
        "n": len(pairs),
        "good": good,
        "same": len(pairs) - good - bad,
        "bad": bad,
        "win_rate": good / (good + bad) if good + bad else None,
        "win_interval": [float(interval.low), float(interval.high)] if interval else None,
        "sign_p": _even_odds(good, bad),
        "accuracy_a": sum(a for a, _ in right) / len(pairs),
        "accuracy_b": sum(b for _, b in right) / len(pairs),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": _even_odds(only_a, only_b),
    }


def align(a: Mapping[str, Sequence[Prediction]], b: Mapping[str, Sequence[Prediction]]) -> list[Pair]:
    """The answers of A and B (set name -> predictions) side by side, in the order of A.

    Raises DataError when the examples differ, see ``require_same_examples``.
    """
    require_same_examples(*({name: [p.example for p in rows] for name, rows in side.items()} for side in (a, b)))
    answers = {(name, p.example.id): p for name, rows in b.items() for p in rows}
    return [Pair(name, p, answers[name, p.example.id]) for name, rows in a.items() for p in rows]


def require_same_examples(a: Mapping[str, Sequence[Example]], b: Mapping[str, Sequence[Example]]) -> None:
    """Raises DataError, saying which and how many, when two groups of sets differ in examples or in gold tiers."""
    wrong = [difference for name in dict.fromkeys([*a, *b]) for difference in _differences(name, a, b)]
    if wrong:
        raise DataError(
            "A and B are not about the same examples:\n" + "\n".join(f"- {line}" for line in wrong),
            hint="give both the same sets (data.evaluation, data.max_evaluation), or write prediction files of both "
            "with the same `agrl eval` settings",
        )


def _differences(name: str, a: Mapping[str, Sequence[Example]], b: Mapping[str, Sequence[Example]]) -> list[str]:
    """What is different about one set, a line each."""
    if name not in a or name not in b:
        side, only = ("A", a) if name in a else ("B", b)
        return [f"only {side} has the set {name} ({_count(len(only[name]))})"]
    in_a, in_b = ({example.id: example for example in side[name]} for side in (a, b))
    both = [(in_a[key], in_b[key]) for key in in_a if key in in_b]
    found = {
        "only in A": [repr(key) for key in in_a if key not in in_b],
        "only in B": [repr(key) for key in in_b if key not in in_a],
        "with another query or product": [repr(x.id) for x, y in both if not _same_pair(x, y)],
        "with another gold tier": [f"{x.id!r}: {x.tier} in A, {y.tier} in B" for x, y in both if x.tier != y.tier],
    }
    return [
        f"{name}: {_count(len(ids))} {what} ({', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''})"
        for what, ids in found.items()
        if ids
    ]


def _count(n: int) -> str:
    return f"{n:,} example{'' if n == 1 else 's'}"


def _same_pair(x: Example, y: Example) -> bool:
    """Whether two examples ask the same; a product of which only the title is known (from a file) is told by it."""
    if (x.query, x.product.title) != (y.query, y.product.title):
        return False
    return x.product == y.product or Product(x.product.title) in (x.product, y.product)


def _even_odds(x: int, y: int) -> float:
    """Two-sided exact probability of a split at least as uneven as ``x`` to ``y`` when both are equally likely."""
    return float(binomtest(x, x + y).pvalue) if x + y else 1.0


def _grouped(pairs: Sequence[Pair], key) -> dict[Any, list[Pair]]:
    groups: dict[Any, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(key(pair), []).append(pair)
    return groups


def _by_segment(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    return _grouped(pairs, lambda pair: pair.example.segment)


def _interleaved(pairs: Sequence[Pair]) -> list[Pair]:
    """One of each gain and segment, then a second of each: so that few shown examples are of many segments."""
    seen: Counter[tuple[int, str]] = Counter()
    ranked = []
    for pair in pairs:
        kind = (pair.gain, pair.example.segment)
        seen[kind] += 1
        ranked.append((seen[kind], pair))
    return [pair for _, pair in sorted(ranked, key=lambda item: item[0])]


def _row(pair: Pair) -> dict[str, Any]:
    """One example with both answers, for a page or a file."""
    example = pair.example
    return {
        "set": pair.set_name,
        "id": example.id,
        "segment": example.segment,
        "query": example.query,
        "title": example.product.title,
        "gold_tier": example.tier,
        "gain": pair.gain,
        **{
            side: {"tier": p.judgement.tier if p.judgement else None, "failure": p.failure, "text": p.text}
            for side, p in (("a", pair.a), ("b", pair.b))
        },
    }
