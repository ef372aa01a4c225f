"""``agrl eval``: a model, or the model of a run, on held-out sets, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from agrl.config.compose import load_config, resumed_config
from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.baselines import baselines
from agrl.driver.evaluate import evaluation_sets, predict
from agrl.driver.prompts import PromptEncoder
from agrl.driver.run_folder import RunFolder
from agrl.driver.runtime import start_runtime
from agrl.driver.services import start_rollouts
from agrl.errors import ConfigError
from agrl.models.tokens import load_tokenizer
from agrl.relevance.metrics import Prediction, evaluate
from agrl.relevance.rulebook import load_rulebook
from agrl.report.evaluation_table import evaluation_tables
from agrl.report.terminal import phase


def evaluate_model(
    model: Path,
    overrides: list[str],
    console,
    json_file: Path | None = None,
    predictions_file: Path | None = None,
    baselines_file: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate, print and write; returns set name -> metrics. Raises AgrlError by name."""
    config = evaluation_config(model, overrides)
    book = load_rulebook(config.task.rulebook)
    encoder = PromptEncoder(book, load_tokenizer(config.model.path), config.task)
    sets = evaluation_sets(config, encoder)
    runtime = start_runtime(config)
    try:
        rollouts = start_rollouts(config, runtime, RunFolder(config.run))
        with phase(console, f"Loading {config.model.path}"):
            rollouts.ready()
        predictions = {}
        for name, examples in sets.items():
            with phase(console, f"Judging {name} ({len(examples):,} pairs)"):
                predictions[name] = predict(rollouts, encoder, examples, config.task.max_response_tokens)
        rollouts.close()
    finally:
        runtime.shutdown()
    found = {name: evaluate(book, rows) for name, rows in predictions.items()}
    beside = baselines(book, read_examples(baselines_file), sets, config.trainer.seed) if baselines_file else {}
    for table in evaluation_tables(found, beside):
        console.print(table)
    if json_file:
        json_file.write_text(
            json.dumps({"model": config.model.path, "sets": found, "baselines": beside}, indent=2) + "\n"
        )
        console.print(f"All metrics: {json_file}")
    if predictions_file:
        _write_predictions(predictions_file, predictions)
        console.print(f"Judgements: {predictions_file}")
    return found


def evaluation_config(model: Path, overrides: list[str]) -> Config:
    """The configuration of the run in ``model``, or of the overrides when it is a plain model folder or hub name."""
    if (model / "config.yaml").is_file():
        config = resumed_config(model, overrides)
        exported = model / "model"
        if not exported.is_dir():
            raise ConfigError(f"{model} holds no trained model yet", hint=f"finish it: `agrl train --resume {model}`")
        return replace(config, model=replace(config.model, path=str(exported)))
    return load_config([*overrides, f"model.path={model}", "run=runs/eval"])


def _write_predictions(path: Path, predictions: dict[str, list[Prediction]]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for name, rows in predictions.items():
            for row in rows:
                stated = row.judgement
                line = {
                    "set": name,
                    "id": row.example.id,
                    "gold_tier": row.example.tier,
                    "tier": stated.tier if stated else None,
                    "verdicts": stated.verdicts if stated else {},
                    "failure": row.failure,
                    "text": row.text,
                }
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
