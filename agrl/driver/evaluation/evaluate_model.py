"""``agrl eval``: a model, or the model of a run, on held-out sets, as a table and as JSON."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agrl.config.compose import load_config, resumed_config
from agrl.config.schema import Config
from agrl.config.words import key_of, setting
from agrl.data.files import read_examples
from agrl.data.predictions import write_predictions
from agrl.driver.evaluation.baselines import baselines
from agrl.driver.evaluation.held_out import evaluation_sets, predict
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.driver.services.runtime import start_runtime
from agrl.driver.services.services import start_rollouts
from agrl.errors import ConfigError
from agrl.relevance.metrics import Prediction, evaluate
from agrl.relevance.records import Example
from agrl.report.evaluation_table import evaluation_tables
from agrl.report.progress import phase


@dataclass(frozen=True)
class Judge:
    """A configured model and the sets that it is to judge, set name -> examples."""

    config: Config
    encoder: PromptEncoder
    sets: dict[str, list[Example]]

    @classmethod
    def load(cls, config: Config) -> Judge:
        """With the configured sets read and their prompts checked; starts nothing. Raises AgrlError by name."""
        encoder = PromptEncoder.load(config)
        return cls(config, encoder, evaluation_sets(config, encoder))

    def predictions(self, console) -> dict[str, list[Prediction]]:
        """Start rollout actors, judge every set greedily, and stop them: set name -> predictions."""
        config = self.config
        runtime = start_runtime(config, Path(config.run), ["rollout"])
        try:
            rollouts = start_rollouts(config, runtime, RunFolder(config.run))
            with phase(console, f"Loading {config.model.path}"):
                rollouts.ready()
            found = {}
            for name, examples in self.sets.items():
                with phase(console, f"Judging {name} ({len(examples):,} pairs)"):
                    found[name] = predict(rollouts, self.encoder, examples, config.task.max_response_tokens)
            rollouts.close()
        finally:
            runtime.shutdown()
        return found


def evaluate_model(
    model: Path,
    overrides: list[str],
    console,
    logs: Path,
    json_file: Path | None = None,
    predictions_file: Path | None = None,
    baselines_file: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluate, print and write; returns set name -> metrics. Raises AgrlError by name.

    ``logs``: the folder whose ``logs`` the rollout actors write to.
    """
    judge = Judge.load(replace(evaluation_config(model, overrides), run=str(logs)))
    config, book = judge.config, judge.encoder.book
    predictions = judge.predictions(console)
    found = {name: evaluate(book, rows) for name, rows in predictions.items()}
    beside = baselines(book, read_examples(baselines_file), judge.sets, config.trainer.seed) if baselines_file else {}
    if json_file:
        json_file.write_text(
            json.dumps({"model": config.model.path, "sets": found, "baselines": beside}, indent=2) + "\n"
        )
    if predictions_file:
        write_predictions(predictions_file, predictions)
    for table in evaluation_tables(found, beside):
        console.print(table)
    for what, file in (("All metrics", json_file), ("Judgements", predictions_file)):
        if file:
            console.print(f"{what}: {file}", soft_wrap=True)
    return found


def is_run(model: Path) -> bool:
    """Whether ``model`` is the folder of a run, which has a configuration of its own."""
    return (model / "config.yaml").is_file()


def evaluation_config(model: Path, overrides: list[str], like: Path | None = None) -> Config:
    """The configuration of the run in ``model``, or of the overrides when it is a plain model folder or hub name.

    ``like``: a run whose configuration a plain model is to be judged under. Raises ConfigError by name, also for
    overrides that name another model.
    """
    if others := [word for word in overrides if key_of(word) == "model.path"]:
        raise ConfigError(f"{others[0]}: the model that is judged is {model}", hint="leave it out")
    if is_run(model):
        config = resumed_config(model, overrides)
        exported = model / "model"
        if not exported.is_dir():
            raise ConfigError(
                f"{model} holds no trained model yet",
                hint=f"finish it: `{shlex.join(['agrl', 'train', '--resume', str(model)])}`",
            )
    elif like:
        config, exported = resumed_config(like, overrides), model
    else:
        return load_config([*overrides, setting("model.path", model), "run=runs/eval"])
    return replace(config, model=replace(config.model, path=str(exported)))
