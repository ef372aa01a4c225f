"""Direct preference optimization: pairs sampled offline from the start model, then updates without any sampling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agrl import signals
from agrl.algorithms.batch import PreferencePair
from agrl.algorithms.schedule import learning_rate
from agrl.config.schema import Config
from agrl.data.pairs import load_pairs, save_pairs
from agrl.driver.experiments.sft import shuffled_batches
from agrl.driver.folder.claim import claimed
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.generation.rollout import roll_out
from agrl.driver.generation.sequences import train_sequence
from agrl.driver.run.checkpoint import Length, is_due, to_resume
from agrl.driver.run.run import Run, running
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.errors import DataError
from agrl.relevance.pairs import preference_pairs
from agrl.relevance.records import Example, ScoredGroup
from agrl.report.progress import numbers, phase, progress
from agrl.report.recorder import Recorder

PROMPTS_AT_A_TIME = 64  # so that the progress bar moves
PAIRS = "pairs.npz"


def train_preferences(config: Config, console, resume: bool = False) -> RunFolder:
    """Run, or with ``resume`` go on with, the DPO run of ``config.run``. Raises AgrlError by name."""
    length = Length("dpo.steps", config.dpo.steps, "dpo", config.dpo)
    with claimed(config, "dpo", resume) as folder:
        checkpoint = to_resume(folder, length, config.learner, console) if resume else None
        if resume and checkpoint is None:
            return folder
        with running(config, folder, "dpo", console, resume) as run:
            if checkpoint is None:
                run.evaluate("before", 0)
            prefer(run, checkpoint)
    return folder


def prefer(run: Run, checkpoint: Checkpoint | None = None) -> None:
    """Sample, pair, and train on running services whose learner and rollout actors hold the start model.

    From a checkpoint the pairs are those that were sampled then.
    """
    config = run.s.config.dpo
    pairs = load_pairs(run.folder.path / PAIRS) if checkpoint else make_pairs(run)
    first = run.restore(checkpoint) if checkpoint else 0
    with run.recorder("dpo", config.steps, first) as recorder:
        _steps(run, recorder, pairs, first)
        with run.clock("broadcast"):
            broadcast_weights(run.s.learner, run.s.rollouts)
        run.finish(config.steps)


def _steps(run: Run, recorder: Recorder, pairs: Sequence[PreferencePair], first: int) -> None:
    config = run.s.config.dpo
    with progress(run.console, "DPO", config.steps) as bar:
        bar.advance(first)
        batches = shuffled_batches(pairs, config.batch_size, config.steps, run.s.config.trainer.seed, first)
        for step, batch in enumerate(batches, first):
            with signals.held_back(run.s.config.trainer.grace_s) as stopped:  # to the end of the step, as in SFT
                metrics = _step(run, batch, step)
                recorder.log(step, metrics)
                bar.advance(1, numbers({"loss": metrics["loss/total"], "right": metrics["dpo/reward_accuracy"]}))
                if is_due(run.s.config.trainer, step + 1, config.steps) or stopped():
                    run.checkpoint(step + 1, config.steps)


def _step(run: Run, batch: Sequence[PreferencePair], step: int) -> dict[str, float]:
    config, begin = run.s.config.dpo, time.perf_counter()
    rate = learning_rate(step, config.lr, config.steps, config.warmup_steps, config.schedule)
    with run.s.learners_turn():
        metrics = run.s.learner.train_preference(batch, rate)
    seconds = time.perf_counter() - begin
    run.phases["learn"] += seconds
    return metrics | {"time/step": seconds}


def make_pairs(run: Run) -> list[PreferencePair]:
    """Sample pairs from the start model, with its log-probabilities of both responses, and save them."""
    with run.clock("rollout"):
        pairs = sample_pairs(run)
    with phase(run.console, "Log-probabilities of the start model"), run.clock("reference"), run.s.learners_turn():
        pairs = with_reference(run, pairs)
    save_pairs(run.folder.path / PAIRS, pairs)
    return pairs


def sample_pairs(run: Run) -> list[PreferencePair]:
    """pass@N: N responses to each of a random part of the pool, and the pairs in them.

    Raises DataError when there are fewer pairs than a batch.
    """
    config, found = run.s.config.dpo, []
    examples = chosen_prompts(run)
    with progress(run.console, "Sampling", len(examples)) as bar:
        for begin in range(0, len(examples), PROMPTS_AT_A_TIME):
            prompts = [(example, 0) for example in examples[begin : begin + PROMPTS_AT_A_TIME]]
            temperature = run.s.config.rollout.temperature
            for group in roll_out(run.s, prompts, config.samples, 0, temperature):
                found += pairs_of(group, config.min_margin, config.pairs_per_prompt)
            bar.advance(len(prompts), numbers({"pairs": len(found)}))
    if len(found) < config.batch_size:
        raise DataError(
            f"{len(examples)} prompts gave {len(found)} pairs, fewer than dpo.batch_size={config.batch_size}",
            hint="the start model solves too few prompts, or all of them: raise dpo.prompts or dpo.samples, or lower "
            "dpo.min_margin",
        )
    return found


def chosen_prompts(run: Run) -> list[Example]:
    """``dpo.prompts`` of the pool at random, all of it when it is smaller; those that are too long are left out."""
    pool, wanted, found = run.s.pool, run.s.config.dpo.prompts, []
    order = np.random.default_rng(run.s.config.trainer.seed).permutation(len(pool))
    while len(found) < wanted and len(order):
        some, order = np.split(order, [min(wanted - len(found), len(order))])
        found += [example for example in pool.take(some) if run.s.encoder.fits(example, run.s.hinted)]
    return found


def pairs_of(group: ScoredGroup, min_margin: float, limit: int) -> list[PreferencePair]:
    """The pairs of a group as token ids."""
    return [
        PreferencePair(train_sequence(group.rollouts[preferred]), train_sequence(group.rollouts[other]))
        for preferred, other in preference_pairs(group, min_margin, limit)
    ]


def with_reference(run: Run, pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """The pairs with the log-probabilities of the learner's present weights, computed once and kept."""
    chosen = run.s.learner.sequence_logprobs([pair.chosen for pair in pairs])
    rejected = run.s.learner.sequence_logprobs([pair.rejected for pair in pairs])
    return [
        replace(pair, reference_chosen=float(a), reference_rejected=float(b))
        for pair, a, b in zip(pairs, chosen, rejected, strict=True)
    ]
