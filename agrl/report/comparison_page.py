"""The page of ``agrl compare``: two judges by set and segment, and the examples where they differ most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agrl.report.comparison_table import CHANCE, interval, p_value, reading, rows, stated
from agrl.report.html import write_page


def write_comparison(path: Path, found: dict[str, Any]) -> Path:
    """Write the page of ``compare`` with the names of both, and return its path."""
    return write_page(path, "comparison.html.j2", context(found))


def context(found: dict[str, Any]) -> dict[str, Any]:
    """Everything that the template shows."""
    sets = found["sets"]
    return {
        "title": f"{found['b']} against {found['a']}",
        "facts": [
            ("A", found["a"]),
            ("B", found["b"]),
            ("Examples", ", ".join(f"{name} {tally['n']:,}" for name, tally in sets.items())),
        ],
        "sets": [
            {
                "name": name,
                "tally": tally,
                "reading": reading(tally),
                "interval": interval(tally),
                "tone": "same" if tally["sign_p"] >= CHANCE else "up" if tally["good"] > tally["bad"] else "down",
                "rows": [(label, part, interval(part)) for label, part in rows(tally)],
            }
            for name, tally in sets.items()
        ],
        "kinds": [
            (name, title, [_example(row) for row in found[kind]])
            for name, title, kind in (
                ("gains", "Where B gains most", "good_examples"),
                ("losses", "Where B loses most", "bad_examples"),
            )
            if found[kind]
        ],
        "p_value": p_value,
    }


def _example(row: dict[str, Any]) -> dict[str, Any]:
    answers = [
        row[side] | {"side": side.upper(), "stated": stated(row[side]), "kind": _kind(row[side], row["gold_tier"])}
        for side in ("a", "b")
    ]
    return row | {"answers": answers}


def _kind(answer: dict[str, Any], gold: int) -> str:
    """The word of an answer's badge."""
    if answer["tier"] is None:
        return "unparsed"
    return "right" if answer["tier"] == gold else "wrong"
