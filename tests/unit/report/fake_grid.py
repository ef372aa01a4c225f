"""Makes folders that look like a grid of finished runs, from numbers that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_cell(
    out: Path,
    method: str,
    start: int = 0,
    seed: int = 0,
    sets: Mapping[str, Mapping[str, Any]] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    wall_s: float = 100.0,
) -> Path:
    """Write one finished run and return its folder. ``rows``: metrics of the RL phase, a mapping for each step."""
    folder = out / "runs" / method / f"start-{start}" / f"seed-{seed}"
    (folder / "evaluation").mkdir(parents=True)
    for name, found in (sets or {"balanced": {}}).items():
        about = {"label": "after", "set": name, "model": "m", "version": len(rows)}
        (folder / "evaluation" / f"after-{name}.json").write_text(json.dumps(evaluation(**found) | about))
    lines = [{"step": step, "phase": "rl", "time": 0.0} | dict(row) for step, row in enumerate(rows)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {"method": method, "start": start, "seed": seed, "wall_s": wall_s, "phases": {"rollout": wall_s / 2}}
    (folder / "cell.json").write_text(json.dumps(about))
    return folder


def evaluation(macro_f1: float | None = 0.5, rule_adherence: float | None = 0.8, **other: Any) -> dict[str, Any]:
    """What ``agrl.relevance.metrics.evaluate`` gives, as far as the grid reads it."""
    return {
        "n": 600,
        "accuracy": 0.6,
        "macro_f1": macro_f1,
        "rule_adherence": rule_adherence,
        "parse_rate": 1.0,
        "tier_f1": {"4": 0.4, "3": 0.3, "2": 0.2, "1": 0.1},
        "good_bad_f1": 0.7,
        "verdict_accuracy": {"category": 0.9, "attributes": 0.8},
        "right_tier_wrong_verdict": 0.05,
    } | other


def write_grid(out: Path, starts: int = 3, seeds: int = 5, steps: int = 60) -> Path:
    """A whole grid on two sets, with learning curves, where AGRL is best and a start matters."""
    skills = dict(sft=0.42, sft_no_hints=0.41, dpo=0.47, grpo=0.46, grpo_rrs=0.5, grpo_agr=0.51, agrl=0.56)
    skills |= dict(sft_teacher_reasoning=0.44, sft_tier_only=0.43, sft_true_reasoning=0.66)
    generator = np.random.default_rng(0)
    level = generator.normal(0, 0.02, starts)
    for method, skill in skills.items():
        for start in range(starts):
            for seed in range(1 if method == "sft" else seeds):
                true = skill + level[start] + generator.normal(0, 0.012)
                rl = method.startswith(("grpo", "agrl"))
                rows = [_row(step / steps, true, generator) for step in range(steps)] if rl else []
                write_cell(out, method, start, seed, _sets(method, true, generator), rows, 60 + 40 * generator.random())
    return out


def _sets(method: str, skill: float, generator: np.random.Generator) -> dict[str, dict[str, Any]]:
    alone = {"rule_adherence": None, "right_tier_wrong_verdict": None, "verdict_accuracy": {}}

    def near(value: float) -> float:
        return float(np.clip(value + 0.01 * generator.normal(), 0, 1))

    return {
        name: {
            "macro_f1": near(skill + gain),
            "accuracy": near(skill + gain + 0.03),
            "rule_adherence": near(skill + 0.35),
            "right_tier_wrong_verdict": near(0.12 - skill / 10),
            "verdict_accuracy": {"category": near(skill + 0.2), "attributes": near(skill + 0.25)},
        }
        | (alone if method == "sft_tier_only" else {})
        for name, gain in (("balanced", 0.0), ("wild", 0.08))
    }


def _row(done: float, skill: float, generator: np.random.Generator) -> dict[str, float]:
    learned = skill - 0.25 * np.exp(-3 * done)
    return {
        "train/accuracy": float(learned + 0.05 * generator.normal()),
        "reward/total_mean": float(learned + 0.1 + 0.04 * generator.normal()),
        "group/all_wrong": float(0.5 - learned / 2 + 0.03 * generator.normal()),
        "group/zero_advantage": float(0.3 + 0.03 * generator.normal()),
        "grad_norm": float(0.6 + 0.1 * generator.random()),
        "tokens/response": 7900 + int(generator.integers(200)),
        "tokens/trained": 7000 + int(generator.integers(200)),
    }
