"""What a dashboard is made of: rows of panels, each with its curves (PromQL) and what a bad one tells you.

A curve of one logged number takes its words from docs/metrics.md. Over actors there are the least, the mean and the
most instead of a line each, so that 512 are drawn as fast as two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
RUN = '{run="$run"}'
SHARE, SECONDS, BYTES, NUMBER, NATS, TOKENS, RATE = "percentunit", "s", "bytes", "short", "none", "none", "Bps"


@dataclass(frozen=True)
class Curve:
    """``query``: PromQL. ``about``: what it is, and what a bad value tells. ``needs``: what a cluster must have."""

    query: str
    legend: str
    about: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Panel:
    """``about``: what the panel as a whole tells. ``unit``: Grafana's name of it."""

    title: str
    unit: str
    curves: list[Curve]
    about: str = ""
    stacked: bool = False

    @property
    def description(self) -> str:
        """Markdown."""
        lines = [f"**{curve.legend}**: {curve.about}" for curve in self.curves if curve.about]
        return "\n\n".join(filter(None, [self.about, *lines]))


@dataclass(frozen=True)
class Row:
    title: str
    panels: list[Panel] = field(default_factory=list)


def words(name: str) -> str:
    """What docs/metrics.md says of a number. Raises KeyError when it says nothing."""
    for line in METRICS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and f"`{name}`" in cells[0]:
            meaning, bad = cells[2], cells[3] if len(cells) > 3 else ""
            told = ". ".join(text[0].upper() + text[1:] for text in (meaning, bad) if text)
            return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", told.rstrip(".") + ".")  # without links
    raise KeyError(f"{METRICS} does not explain {name}")


def logged(name: str, legend: str = "", documented: str = "") -> Curve:
    """A number that a run logs. ``documented``: the name under which docs/metrics.md has it."""
    metric = "ray_agrl_" + re.sub(r"[^A-Za-z0-9]+", "_", name)
    return Curve(metric + RUN, legend or name, words(documented or name))


def held_out(name: str, legend: str) -> Curve:
    """A share of the last evaluation, a line for each held-out set."""
    return Curve(f"ray_agrl_eval_{name}{RUN}", legend, words(name))


def over_actors(metric: str, service: str, about: str) -> list[Curve]:
    """The least, the mean and the most of the actors of a service."""
    each = f'ray_agrl_actor_{metric}{{run="$run",service="{service}"}}'
    names = {"min": "least", "avg": "mean", "max": "most"}
    return [Curve(f"{how}({each})", f"{service}, {name}", about if how == "avg" else "") for how, name in names.items()]
