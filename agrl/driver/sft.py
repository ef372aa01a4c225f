"""The supervised cold start: cross-entropy on reference judgements, through the same learner as RL."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from agrl.algorithms.batch import TrainSequence
from agrl.algorithms.schedule import learning_rate
from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.learners import LearnerGroup
from agrl.driver.prompts import PromptEncoder
from agrl.driver.run_folder import RunFolder
from agrl.driver.runtime import start_runtime
from agrl.errors import ConfigError, DataError
from agrl.models.positions import check_positions
from agrl.models.tokens import load_tokenizer
from agrl.relevance.hints import reference_judgement
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.progress import numbers, phase, progress
from agrl.report.recorder import Recorder


def supervised(config: Config, console) -> RunFolder:
    """Train on ``data.seed``; the result is an ordinary model folder, RUN/model. Raises AgrlError by name."""
    book, run = load_rulebook(config.task.rulebook), RunFolder(config.run)
    check_positions(config.model.path, config.task.max_prompt_tokens, config.task.max_response_tokens)
    encoder = PromptEncoder(book, load_tokenizer(config.model.path), config.task)
    sequences = load_references(config, encoder)
    run.start(config, book, resume=False)
    steps, size = config.sft.steps, config.sft.batch_size
    console.print(
        f"SFT: {len(sequences):,} references, {steps} steps of {size} = {steps * size / len(sequences):.1f} epochs"
    )
    runtime = start_runtime(config)
    try:
        with phase(console, "Loading the learner"):
            learner = LearnerGroup(runtime, config, run.logs)
            notice = learner.setup()
        if notice:
            console.print(notice)
        imitate(config, learner, sequences, run, console)
        learner.export(run.model)
        learner.close()
    finally:
        runtime.shutdown()
    console.print(f"Model: {run.model}")
    return run


def imitate(config: Config, learner: LearnerGroup, sequences: Sequence[TrainSequence], run: RunFolder, console) -> None:
    """Train a running learner on the sequences."""
    c = config.sft
    with Recorder(run.path, "sft") as recorder, progress(console, "SFT", c.steps) as bar:
        for step, batch in enumerate(shuffled_batches(sequences, c.batch_size, c.steps, config.trainer.seed)):
            begin = time.perf_counter()
            metrics = learner.train_sft(batch, learning_rate(step, c.lr, c.steps, c.warmup_steps, c.schedule))
            recorder.log(step, metrics | {"time/step": time.perf_counter() - begin})
            bar.advance(1, numbers({"loss": metrics["loss/total"]}))


def load_references(config: Config, encoder: PromptEncoder) -> list[TrainSequence]:
    """What ``data.seed`` gives to imitate. Raises ConfigError when it is not set or has fewer rows than a batch."""
    if not config.data.seed:
        raise ConfigError("data.seed names no file", hint="give data.seed=FILE of examples with a reference judgement")
    sequences = reference_sequences(read_examples(config.data.seed), encoder, config.sft.hints)
    if len(sequences) < config.sft.batch_size:
        raise ConfigError(
            f"sft.batch_size={config.sft.batch_size} is larger than the {len(sequences)} usable rows of "
            f"{config.data.seed}"
        )
    return sequences


def reference_sequences(examples: Sequence[Example], encoder: PromptEncoder, hints: bool = True) -> list[TrainSequence]:
    """What to imitate: a row's own reference (right or wrong), else one rendered from its gold labels.

    ``hints``: also the rows that show a hint. Raises DataError when no row has either, or none fits the length limits.
    """
    found = []
    for example in examples if hints else [e for e in examples if not e.hint_level]:
        judgement = example.reference or reference_judgement(encoder.book, example, complete=True)
        if judgement is None:
            continue
        prompt, (_, response) = encoder.prompt(example, example.hint_level), encoder.response(judgement)
        fits = len(prompt) <= encoder.task.max_prompt_tokens and len(response) <= encoder.task.max_response_tokens
        if fits:
            found.append(TrainSequence(prompt, response, np.zeros(len(response), np.float32)))
    if not found:
        raise DataError(
            f"none of {len(examples)} rows has a reference judgement that fits task.max_prompt_tokens and "
            "task.max_response_tokens",
            hint="`agrl data stats FILE` shows what the rows have",
        )
    return found


def shuffled_batches(sequences: Sequence[TrainSequence], size: int, steps: int, seed: int):
    """``steps`` batches of ``size``: epoch after epoch in a fresh, seeded order."""
    generator = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < size:
            order.extend(generator.permutation(len(sequences)).tolist())
        batch, order = order[:size], order[size:]
        yield [sequences[i] for i in batch]
