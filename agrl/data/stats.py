"""What is in a set of examples, as counts and shares: plain JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from agrl.relevance.records import TIERS, Example


def describe(examples: Sequence[Example]) -> dict[str, Any]:
    """Counts by tier, segment, verdict and hint level; shares with a reference and of right references; mean words.

    ``reference.tier_right``: share of the references whose tier is the gold tier, over the rows with a gold tier and
    without a hint (a hint tells the answer), in all and by tier and segment; None without such rows. Words are
    separated by white space.
    """
    taught = [example for example in examples if example.reference is not None]
    unaided = [example for example in taught if not example.hint_level and example.tier is not None]
    return {
        "rows": len(examples),
        "queries": len({example.query for example in examples}),
        "products": len({repr(example.product) for example in examples}),
        "tiers": {str(tier): sum(example.tier == tier for example in examples) for tier in TIERS},
        "without_tier": sum(example.tier is None for example in examples),
        "segments": dict(Counter(example.segment for example in examples).most_common()),
        "verdicts": _verdicts(examples),
        "hint_levels": {str(level): n for level, n in sorted(Counter(e.hint_level for e in examples).items())},
        "reference": {
            "rows": len(taught),
            "share": _share(len(taught), len(examples)),
            "tier_right": _right(unaided),
            "tier_right_by_tier": {str(tier): _right([e for e in unaided if e.tier == tier]) for tier in TIERS},
            "tier_right_by_segment": {
                segment: _right([e for e in unaided if e.segment == segment])
                for segment in sorted({e.segment for e in unaided})
            },
        },
        "mean_words": {
            "query": _mean([len(e.query.split()) for e in examples]),
            "title": _mean([len(e.product.title.split()) for e in examples]),
            "text": _mean([len(e.product.text.split()) for e in examples]),
            "reference": _mean([_reference_words(e) for e in taught]),
        },
    }


def _verdicts(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for example in examples:
        for criterion, verdict in example.verdicts.items():
            counts.setdefault(criterion, Counter())[verdict] += 1
    return {
        criterion: {**dict(found.most_common()), "unknown": len(examples) - found.total()}
        for criterion, found in counts.items()
    }


def _reference_words(example: Example) -> int:
    reference = example.reference
    return sum(len(text.split()) for text in (*reference.readings.values(), *reference.verdicts.values())) + 1


def _right(taught: Sequence[Example]) -> float | None:
    return _share(sum(e.reference.tier == e.tier for e in taught), len(taught)) if taught else None


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _mean(numbers: Sequence[int]) -> float:
    return round(sum(numbers) / len(numbers), 2) if numbers else 0.0
