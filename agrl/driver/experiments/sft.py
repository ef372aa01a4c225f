"""The supervised cold start: cross-entropy on reference judgements, through the same learner as RL."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from agrl import signals
from agrl.algorithms.batch import TrainSequence
from agrl.algorithms.schedule import learning_rate
from agrl.config.schema import Config, RayMode
from agrl.data.files import read_examples
from agrl.driver.folder.claim import claimed
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.run.checkpoint import Length, is_due, restore, save_checkpoint, to_resume
from agrl.driver.run.recording import open_recorder, where_watched
from agrl.driver.run.results import leave_results
from agrl.driver.services.learners import LearnerGroup
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.driver.services.runtime import start_runtime
from agrl.errors import ConfigError, DataError
from agrl.placement.foresight import first_lines
from agrl.placement.places import host_lines
from agrl.relevance.hints import reference_judgement
from agrl.relevance.records import Example
from agrl.report.events import EventLog
from agrl.report.progress import numbers, phase, progress

T = TypeVar("T")


def supervised(config: Config, console, resume: bool = False) -> RunFolder:
    """Train on ``data.seed``, or with ``resume`` go on with it; the result is an ordinary model folder, RUN/model.

    Raises AgrlError by name.
    """
    length = Length("sft.steps", config.sft.steps, "sft", config.sft)
    with claimed(config, "sft", resume) as folder:
        checkpoint = to_resume(folder, length, config.learner, console) if resume else None
        if resume and checkpoint is None:
            return folder
        encoder = PromptEncoder.load(config)
        references = load_references(config, encoder)
        folder.start(config, encoder.book, "sft", resume)
        c = config.sft
        epochs = c.steps * c.batch_size / len(references.sequences)
        if where := where_watched(config):
            console.print(where, markup=False, soft_wrap=True)
        console.print(f"SFT: {references}, {c.steps} steps of {c.batch_size} = {epochs:.1f} epochs")
        for line in first_lines(config, ["learner"]):
            console.print(line, soft_wrap=True)
        with running_learner(config, folder, console) as learner:
            imitate(config, learner, references.sequences, folder, console, checkpoint)
            with folder.replacing_model() as model:
                learner.export(model)
            leave_results(folder, c.steps, {"version": learner.version}, learner.runtime.hosts(), console)
        console.print(f"Model: {folder.model}", markup=False, soft_wrap=True)
    return folder


@contextmanager
def running_learner(config: Config, folder: RunFolder, console) -> Iterator[LearnerGroup]:
    """Start a learner alone, and stop it at the end."""
    runtime = start_runtime(config, folder.path, ["learner"])
    runtime.on_change = EventLog(folder.path)
    try:
        with phase(console, "Loading the learner"):
            learner = LearnerGroup(runtime, config, folder.logs)
            notice = learner.setup()
        if notice:
            console.print(notice)
        if config.ray.mode == RayMode.cluster:
            for line in host_lines(runtime.hosts()):
                console.print(line, soft_wrap=True)
        yield learner
        learner.close()
    finally:
        runtime.shutdown()


def imitate(
    config: Config,
    learner: LearnerGroup,
    sequences: Sequence[TrainSequence],
    folder: RunFolder,
    console,
    checkpoint: Checkpoint | None = None,
    rounds_before: int = 0,
) -> None:
    """Train a running learner on the sequences, from the checkpoint or from the start to the last step.

    ``rounds_before``: of as many steps each, that the run has done.
    """
    c, trainer, data, before = config.sft, config.trainer, digest(sequences), rounds_before * config.sft.steps
    if checkpoint and checkpoint.state["data"] != data:
        raise DataError(
            f"{config.data.seed} does not give the examples that {folder.path} was started with: the file, the limits "
            "of lengths or the rule book have changed",
            hint="resume with what the run was started with, or start a new run from the exported model",
        )
    first, end = restore(checkpoint, learner, console) - before if checkpoint else 0, before + c.steps
    recorder = open_recorder(config, folder.path, "sft", end, before + first, learner.runtime, learner.gauges)
    with recorder, progress(console, "SFT", c.steps) as bar:
        bar.advance(first)
        for step, batch in enumerate(shuffled_batches(sequences, c.batch_size, c.steps, trainer.seed, first), first):
            with signals.held_back(trainer.grace_s) as stopped:  # to the end of the step, with a checkpoint then
                begin, done = time.perf_counter(), before + step + 1
                metrics = learner.train_sft(batch, learning_rate(step, c.lr, c.steps, c.warmup_steps, c.schedule))
                recorder.log(done - 1, metrics | {"time/step": time.perf_counter() - begin})
                bar.advance(1, numbers({"loss": metrics["loss/total"]}))
                if is_due(trainer, done, end) or stopped():
                    save_checkpoint(folder, learner, done, end, trainer.keep_checkpoints, data=data)


def digest(sequences: Sequence[TrainSequence]) -> str:
    """Of all tokens of the sequences, in their order."""
    found = hashlib.blake2b(digest_size=16)
    for sequence in sequences:
        for ids in (sequence.prompt_ids, sequence.response_ids):
            found.update(np.int64(len(ids)).tobytes() + ids.tobytes())
    return found.hexdigest()


@dataclass
class References:
    """What a file gives to imitate, and how many of its rows give nothing: by the reason."""

    sequences: list[TrainSequence] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        rows = [f"{n:,} {'row' if n == 1 else 'rows'} {reason}" for reason, n in self.left_out.most_common()]
        return f"{len(self.sequences):,} references" + (f" ({', '.join(rows)}: left out)" if rows else "")


def load_references(config: Config, encoder: PromptEncoder) -> References:
    """What ``data.seed`` gives to imitate. Raises ConfigError when it is not set or has fewer rows than a batch."""
    if not config.data.seed:
        raise ConfigError("data.seed names no file", hint="give data.seed=FILE of examples with a reference judgement")
    found = references(read_examples(config.data.seed, labelled=False), encoder, config.sft.hints)
    if len(found.sequences) < config.sft.batch_size:
        raise ConfigError(
            f"sft.batch_size={config.sft.batch_size} is more than {config.data.seed} gives: {found}",
            hint="lower sft.batch_size, or give more rows that fit and have a reference judgement or gold verdicts",
        )
    return found


def references(examples: Sequence[Example], encoder: PromptEncoder, hints: bool = True) -> References:
    """What to imitate: a row's own reference (right or wrong), else one rendered from its gold labels.

    ``hints``: also the rows that show a hint. Raises DataError when no row has either, or none fits the length limits.
    """
    found, task = References(), encoder.task
    for example in examples:
        judgement = example.reference or reference_judgement(encoder.book, example, complete=True)
        if example.hint_level and not hints:
            found.left_out["with a hint"] += 1
        elif judgement is None:
            found.left_out["without a judgement"] += 1
        else:
            prompt, (_, response) = encoder.prompt(example, example.hint_level), encoder.response(judgement)
            if len(prompt) > task.max_prompt_tokens:
                found.left_out["longer than task.max_prompt_tokens"] += 1
            elif len(response) > task.max_response_tokens:
                found.left_out["with an answer longer than task.max_response_tokens"] += 1
            else:
                found.sequences.append(TrainSequence(prompt, response, np.zeros(len(response), np.float32)))
    if not found.sequences:
        raise DataError(
            f"none of {len(examples)} rows can be imitated: {found}",
            hint="`agrl data stats FILE` shows what the rows have; task.max_*_tokens are the limits",
        )
    return found


def shuffled_batches(sequences: Sequence[T], size: int, steps: int, seed: int, first: int = 0) -> Iterator[list[T]]:
    """The batches of ``size`` of steps ``first`` to ``steps`` - 1: epoch after epoch in a fresh, seeded order."""
    generator = np.random.default_rng(seed)
    order: list[int] = []
    for step in range(steps):
        while len(order) < size:
            order.extend(generator.permutation(len(sequences)).tolist())
        batch, order = order[:size], order[size:]
        if step >= first:
            yield [sequences[i] for i in batch]
