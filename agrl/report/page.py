"""Writes ``report.html``: one self-contained page that says what a run did, how well, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agrl.report import charts, tables
from agrl.report.events import deaths
from agrl.report.findings import findings
from agrl.report.html import write_page
from agrl.report.progress import duration
from agrl.report.run_data import RunData, read_run
from agrl.report.trajectories import choose, kind

REPORT = "report.html"


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Raises ``DataError`` when the folder holds nothing of a run or a file in it is malformed.
    """
    run = read_run(run_dir)
    return write_page(run.path / REPORT, "page.html.j2", context(run))


def context(run: RunData) -> dict[str, Any]:
    """Everything that the template shows."""
    return {
        "title": run.path.resolve().name,
        "facts": facts(run),
        "findings": findings(run),
        "sections": [(name, drawn) for name, drawn in _charts(run) if drawn],
        "sets": [_set(run, name) for name in run.sets],
        "trajectories": [_trajectory(run, sample) for sample in choose(run.samples)],
        "times": _times(run),
        "hosts": _hosts(run),
        "deaths": [_death(run, lost) for lost in deaths(run.events)],
        "config": run.config_text,
        "rulebook": run.rulebook_text,
        "versions": run.versions,
        "evaluated": {name: list(labels) for name, labels in run.evaluations.items()},
    }


def facts(run: RunData) -> list[tuple[str, str]]:
    """What ran, as label and value, for the head of the page."""
    prompts, rollouts = run.setting("trainer.prompts_per_step"), run.setting("trainer.rollouts_per_prompt")
    rows = next(iter(run.metrics.values()), [])
    wall = run.summary.get("wall_s") or (rows[-1]["time"] - rows[0]["time"] if rows and "time" in rows[0] else None)
    guidance = run.setting("guidance.enabled")
    source = f"{run.setting('guidance.source')}, {run.setting('guidance.semantics')}" if guidance else "off"
    known = {
        "Model": run.setting("model.path"),
        "Rule book": run.rulebook.get("name") or run.setting("task.rulebook"),
        "Steps": ", ".join(f"{len(rows):,} {phase.upper()}" for phase, rows in run.metrics.items()),
        "Batch": f"{prompts} prompts × {rollouts} rollouts" if run.rl and prompts else None,
        "Reward": run.setting("reward.mode") if run.rl else None,
        "Guidance": source if run.rl else None,
        "Wall time": duration(wall) if wall else None,
        "Code": run.versions.get("git") or run.versions.get("agrl"),
    }
    return [(label, str(value)) for label, value in known.items() if value]


def _charts(run: RunData) -> list[tuple[str, list[charts.Chart]]]:
    return [
        ("Supervised cold start", charts.draw(run, charts.SUPERVISED, "sft")),
        ("Preferences", charts.draw(run, charts.PREFERENCE, "dpo")),
        ("Learning", [*charts.held_out(run), *charts.draw(run, charts.LEARNING), *charts.components(run)]),
        ("Groups and guidance", [*charts.decisions(run), *charts.draw(run, charts.GROUPS)]),
        ("Optimisation", charts.draw(run, charts.OPTIMISATION)),
        ("Weight sync", charts.draw(run, charts.SYNC)),
    ]


def _set(run: RunData, name: str) -> dict[str, Any]:
    """One held-out set: its tiles, tables and confusion matrices."""
    ends = {label: e for label, e in zip(("before", "after"), run.ends(name), strict=True) if e}
    if not ends:  # neither end was evaluated: show what there is
        ends = dict(list(run.evaluations[name].items())[-1:])
    last = list(ends.values())[-1]
    return {
        "name": name,
        "n": last["n"],
        "headline": tables.headline(run, name),
        "tiers": tables.tiers(run, name),
        "segments": tables.segments(run, name),
        "failures": list(tables.failures(run, name)),
        "confusion": {label: tables.confusion(run, evaluation) for label, evaluation in ends.items()},
    }


def _hosts(run: RunData) -> list[tuple[str, list[str]]]:
    """Each host, with its address, and the actors that it had at the end of the run."""
    hosts: dict[str, list[str]] = {}
    for actor, host in run.summary.get("placement", {}).items():
        hosts.setdefault(f"{host['name']} ({host['address']})", []).append(actor)
    return sorted(hosts.items())


def _death(run: RunData, lost: dict[str, Any]) -> dict[str, str]:
    """Who was lost when, why, and until another one served in its place."""
    began = run.events[0]["time"]
    return {
        "actor": lost["actor"],
        "step": "" if lost["step"] is None else str(lost["step"]),
        "after": duration(lost["time"] - began),
        "back": "-" if lost["back_s"] is None else f"{lost['back_s']:.1f} s",
        "host": lost["host"],
        "cause": lost["cause"].splitlines()[0] if lost["cause"] else "",
    }


def _trajectory(run: RunData, sample: dict[str, Any]) -> dict[str, Any]:
    tier = sample.get("tier")
    return sample | {
        "kind": kind(sample),
        "gold_label": tables.tier_label(run, str(sample["gold_tier"])),
        "tier_label": tables.tier_label(run, str(tier)) if tier else "unparsed",
    }


def _times(run: RunData) -> dict[str, Any]:
    """Seconds by phase, most first, with the share of each, and the chart of every step's time."""
    # a demo keeps the phases of its RL run apart from its own
    phases = dict(run.summary.get("rl_phases") or run.summary.get("phases") or {})
    if not phases:
        for rows in run.metrics.values():
            for row in rows:
                for name, seconds in row.items():
                    if name.startswith("time/") and name != "time/step":
                        phases[name[5:]] = phases.get(name[5:], 0.0) + (seconds or 0.0)
    total = sum(phases.values())
    ordered = sorted(phases.items(), key=lambda item: -item[1])
    tokens = sum(run.series("tokens/response")[1])
    rollout = phases.get("rollout", 0.0)
    return {
        "phases": [(name, seconds, seconds / total if total else 0.0) for name, seconds in ordered],
        "total": total,
        "rate": tokens / rollout if rollout and tokens else None,
        "charts": [*charts.step_time(run), *charts.draw(run, charts.THROUGHPUT)],
    }
