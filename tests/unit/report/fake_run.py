"""Makes run folders that look like real ones, in a second: curves that learn, evaluations from the real metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from agrl.config.compose import to_yaml
from agrl.config.schema import Config
from agrl.relevance.metrics import Prediction, evaluate
from agrl.relevance.records import Component, Example, Judgement, Product, Provenance, Rollout, Score
from agrl.relevance.rulebook import load_rulebook
from agrl.report.recorder import Recorder, sample_row

SEGMENTS = ("plain", "attribute", "negation", "alternative", "numeric", "knowledge", "accessory")
COMPONENTS = ("format", "category", "attributes", "consistency", "tier")
PHASES = {"sample": 0.02, "rollout": 0.55, "score": 0.06, "guide": 0.12, "learn": 0.36, "broadcast": 0.05}
PHASES |= {"overhead": 0.02}


def make_run(path: Path, steps: int = 40, seed: int = 0, evaluations: bool = True) -> Path:
    """Write a run folder of ``steps`` RL steps and return it."""
    generator = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.model.path, config.run = "runs/demo/sft/model", str(path)
    (path / "config.yaml").write_text(to_yaml(config))
    (path / "rulebook.yaml").write_text(load_rulebook("relevance").source)
    (path / "versions.json").write_text(json.dumps({"python": "3.11.7", "git": "1a2b3c4d5e6f", "agrl": "0.1.0"}))
    with Recorder(path) as recorder:
        for step in range(steps):
            recorder.log(step, metrics(step, steps, generator))
            recorder.samples(step, [sample(step, steps, generator) for _ in range(4)])
    if evaluations:
        write_evaluations(path, generator)
    phases = {name: seconds * steps for name, seconds in PHASES.items()} | {"start": 21.0, "evaluate": 9.0}
    summary = {"steps": steps, "version": steps, "wall_s": sum(phases.values()) + 4, "phases": phases}
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def metrics(step: int, steps: int, generator: np.random.Generator) -> dict[str, float]:
    """The metrics of one step of a run that goes well."""
    done = 1 - np.exp(-3 * step / steps)

    def noisy(value: float, spread: float = 0.03) -> float:
        return float(np.clip(value + spread * generator.normal(), 0, 1))

    guided = int(step > 2) * max(1, round(9 * (1 - done) * generator.uniform(0.6, 1.4)))
    dropped = int(3 + 8 * done * generator.uniform(0.5, 1.2))
    return {
        "train/accuracy": noisy(0.24 + 0.45 * done),
        "train/parse_rate": noisy(0.975 + 0.02 * done, 0.006),
        "train/rule_adherence": noisy(0.48 + 0.47 * done),
        "train/right_tier_wrong_verdict": noisy(0.05 + 0.05 * done, 0.01),
        "reward/total_mean": noisy(0.42 + 0.36 * done),
        "reward/total_std": noisy(0.3 - 0.08 * done),
        "reward/invalid": 0,
        **{f"reward/{c}_mean": noisy(0.3 + 0.08 * i + (0.5 - 0.05 * i) * done) for i, c in enumerate(COMPONENTS)},
        **{f"reward/{c}_invalid": 0 for c in COMPONENTS},
        "group/all_wrong": noisy(0.36 - 0.2 * done),
        "group/all_right": noisy(0.04 + 0.25 * done),
        "group/zero_advantage": noisy(0.06 + 0.16 * done),
        "decisions/keep": 32 - guided - dropped,
        "decisions/guide": guided,
        "decisions/drop": dropped,
        "decisions/keep/signal": 32 - guided - dropped,
        "decisions/guide/low_accuracy": guided,
        "decisions/drop/zero_variance": dropped,
        "decisions/unguided/cap": max(0, guided - 6),
        "decisions/unguided/warmup": 11 * (step <= 2),
        "guide/share": guided * 2 / 256,
        "guide/solved": guided - guided // 4,
        "guide/level_mean": 2.3 - 0.7 * done + 0.1 * generator.normal() if guided else 0.0,
        "loss/total": 0.01 * generator.normal(),
        "policy/ratio_mean": 1 + 0.001 * generator.normal(),
        "policy/clip_fraction": noisy(0.05, 0.01),
        "policy/entropy": noisy(0.38 - 0.2 * done, 0.02),
        "grad_norm": float(abs(0.6 + 0.15 * generator.normal())),
        "lr": 2e-4,
        "sync/gap_max": 2e-6 * generator.uniform(0.5, 2),
        "sync/gap_mean": 2e-7 * generator.uniform(0.5, 2),
        "sync/ess": 1 - 1e-6 * generator.uniform(),
        "response/length_mean": 31 + generator.normal(),
        "response/cut_off": noisy(0.002, 0.002),
        "tokens/response": 256 * 31,
        "tokens/prompt": 32 * 60,
        "rollout/tokens_per_s": 9000 * generator.uniform(0.9, 1.1),
        "rollout/prefix_cache_hits": 0.71,
        "learner/computed_tokens_per_s": 21000 * generator.uniform(0.9, 1.1),
        "learner/useful_tokens_per_s": 64000 * generator.uniform(0.9, 1.1),
        "learner/flop_utilisation": noisy(0.3, 0.02),
        "actors/rollout_restarts": int(step > 25),
        "actors/reward_restarts": 0,
        **{f"time/{name}": seconds * generator.uniform(0.8, 1.3) for name, seconds in PHASES.items()},
        "time/step": sum(PHASES.values()),
    }


def sample(step: int, steps: int, generator: np.random.Generator) -> dict:
    """One trajectory in the form of ``samples.jsonl``, through the real records."""
    done = step / steps
    correct, guided = generator.random() < 0.25 + 0.5 * done, generator.random() < 0.2 * (1 - done)
    parses = guided or generator.random() < 0.93
    correct = parses and (correct or guided)
    tier = 2 if correct else 4
    product = Product("premium norvik crimson electric coffee mill, 2 pack")
    segment = str(generator.choice(SEGMENTS))
    example = Example(f"rl-{step:05d}", "coffee grinder not electric", product, 2, {"category": "same"}, None, segment)
    verdicts = {"category": "same", "attributes": "unmet" if correct else "met"}
    readings = {"query": "coffee grinder; not electric", "product": "coffee grinder; electric; red"}
    text = f"Query: {readings['query']}\nProduct: {readings['product']}\nCategory: same\n"
    text += f"Attributes: {verdicts['attributes']}\nTier: {tier}" if parses else "Category: same"
    values = (1.0, 1.0, float(correct), 1.0, float(correct)) if parses else (0.0,) * 5
    parts = {name: Component(value) for name, value in zip(COMPONENTS, values, strict=True)}
    parts["attributes"] = (
        Component(0.0, valid=False, reason="no_gold_verdict") if step % 3 == 0 else parts["attributes"]
    )
    judgement = Judgement(tier, verdicts, readings) if parses else None
    total = 0.2 * sum(c.value for c in parts.values() if c.valid)
    score = Score(total, True, parts, correct, parses, guided, judgement, "" if parses else "missing_line")
    rollout = Rollout(example.id, np.zeros(3, np.int32), np.ones(5, np.int32), np.zeros(5, np.float32), text, step)
    if guided:
        rollout.provenance, rollout.hint_level = Provenance.TRANSFER, int(generator.integers(1, 4))
    return sample_row(example, rollout, score, float((1.2 if correct else -0.8) * generator.uniform(0.4, 1.1)))


def write_evaluations(path: Path, generator: np.random.Generator) -> None:
    """Evaluations on two sets: before, half-way, and after."""
    folder = path / "evaluation"
    folder.mkdir(exist_ok=True)
    for name in ("balanced", "wild"):
        for label, skill in (("before", 0.2), ("step-000020", 0.5), ("after", 0.7)):
            found = evaluate(load_rulebook("relevance"), predictions(generator, skill))
            found |= {"label": label, "set": name, "model": "runs/demo/agrl/model"}
            (folder / f"{label}-{name}.json").write_text(json.dumps(found))


def predictions(generator: np.random.Generator, skill: float, n: int = 600) -> list[Prediction]:
    """``n`` predictions of which about ``skill`` are known to the model and the rest guessed."""
    book, found = load_rulebook("relevance"), []
    for i in range(n):
        gold = {
            "category": str(generator.choice(["same", "substitute", "accessory", "unrelated"])),
            "attributes": "met",
        }
        segment = str(generator.choice(SEGMENTS))
        known = generator.random() < skill - (0.25 if segment == "negation" else 0)
        stated = gold if known else gold | {"category": str(generator.choice(["same", "unrelated", "accessory"]))}
        example = Example(str(i), "q", Product("p"), book.decide(gold), gold, None, segment)
        tier = book.decide(stated) if generator.random() < 0.5 + skill / 2 else int(generator.integers(1, 5))
        judgement = Judgement(tier, stated) if generator.random() < 0.98 else None
        found.append(Prediction(example, "", judgement, "" if judgement else "missing_line"))
    return found
