"""``agrl ground``: the policy reads the pool, gold follows its own readings, and it is trained on what is sound.

Round by round: answers of the engines, references grounded in them (``agrl.relevance.grounding``), and supervised
training of the start model on these. From the second round on, pairs without labels give references, too: then the
answers come of a policy that has learned from gold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from actors.generation import Generation
from agrl.config.schema import Config
from agrl.data.files import read_examples, write_examples
from agrl.data.rows import twice
from agrl.driver.experiments.sft import imitate, references
from agrl.driver.folder.claim import claimed
from agrl.driver.folder.run_folder import Checkpoint, RunFolder
from agrl.driver.generation.rollout import request, sampling
from agrl.driver.run.checkpoint import Length, to_resume
from agrl.driver.run.run import Run, running
from agrl.driver.services.learner_weights import broadcast_weights
from agrl.driver.services.prompt_encoder import PromptEncoder
from agrl.driver.services.services import Services
from agrl.errors import DataError
from agrl.relevance.grounding import REASONS, Answer, Gold, Grounded, ground
from agrl.relevance.hints import hint_levels
from agrl.relevance.parse import parse
from agrl.relevance.records import Example, Judgement
from agrl.report.progress import numbers, progress

PAIRS_AT_A_TIME = 512  # so that the progress bar moves
FILE = "references-{}.parquet"


def train_grounded(config: Config, console, resume: bool = False) -> RunFolder:
    """Run, or with ``resume`` go on with, the run of ``config.run``. Raises AgrlError by name."""
    length = Length("ground.rounds", config.ground.rounds * config.sft.steps, "sft", config.sft)
    with claimed(config, "ground", resume) as folder:
        checkpoint = to_resume(folder, length, config.learner, console) if resume else None
        if resume and checkpoint is None:
            return folder
        with running(config, folder, "ground", console, resume) as run:
            if checkpoint is None:
                run.evaluate("before", 0)
            teach(run, checkpoint)
    return folder


def teach(run: Run, checkpoint: Checkpoint | None = None) -> None:
    """All rounds on running services, whose learner and engines hold the start model; or those that are left."""
    s, told = run.s, []
    rounds, steps = s.config.ground.rounds, s.config.sft.steps
    first = (checkpoint.step - 1) // steps if checkpoint else 0
    for number in range(first, rounds):
        begun = checkpoint if number == first else None
        found = load_round(run, number) if begun else make_round(run, number)
        told.append(found.counts)
        run.console.print(f"Round {number + 1}: {found}", soft_wrap=True)
        sequences = references(found.examples, s.encoder).sequences
        if number and not begun:
            s.learner.restart(s.config)  # from the start model, which has seen no reference
        with run.clock("learn"):
            imitate(s.config, s.learner, sequences, run.folder, run.console, begun, number)
        with run.clock("broadcast"):
            broadcast_weights(s.learner, s.rollouts)
    run.finish(rounds * steps, ground=told)


@dataclass
class Round:
    """What the pairs of a round gave: examples with a reference, and how many give none, by the reason."""

    asked: int
    examples: list[Example] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    labelled: int = 0  # of the examples
    guided: int = 0  # of the examples, those whose reading was made with a hint

    @property
    def counts(self) -> dict[str, Any]:
        """For summary.json."""
        kept = {"asked": self.asked, "kept": len(self.examples), "labelled": self.labelled, "guided": self.guided}
        return kept | {"left_out": dict(+self.left_out)}

    def __str__(self) -> str:
        without = ", ".join(f"{n:,} {REASONS.get(why, why)}" for why, n in self.left_out.most_common() if n)
        guided = f", {self.guided:,} of them read with a hint" if self.guided else ""
        kept = f"{len(self.examples):,} references from {self.asked:,} pairs{guided}"
        return kept + (f" ({without})" if without else "")


def make_round(run: Run, number: int) -> Round:
    """Answers to every pair, and what they give; the examples are kept in the run's folder."""
    s, c = run.s, run.s.config
    sources = _sources(run, number)
    found = Round(sum(len(examples) for examples, _ in sources))
    with progress(run.console, f"Reading (round {number + 1})", found.asked) as bar, run.clock("rollout"):
        read = 0
        for examples, gold in sources:
            for begin in range(0, len(examples), PAIRS_AT_A_TIME):
                some = examples[begin : begin + PAIRS_AT_A_TIME]
                _add(found, s, some, gold, number)
                read += len(some)
                bar.advance(len(some), numbers({"kept": len(found.examples) / read}))
    if len(found.examples) < c.sft.batch_size:
        raise DataError(
            f"round {number + 1} gave {found}, fewer than sft.batch_size={c.sft.batch_size}",
            hint="look at what the start model says (`agrl eval --predictions FILE`); raise ground.samples, lower "
            "ground.agreement, or give more pairs",
        )
    write_examples(run.folder.path / FILE.format(number + 1), found.examples)
    return found


def _sources(run: Run, number: int) -> list[tuple[list[Example], Gold]]:
    """The pairs of a round, and what is known of them."""
    c = run.s.config
    sources = [(list(run.s.pool), c.ground.gold)]
    if c.data.unlabelled and number:
        sources.append((read_examples(c.data.unlabelled, labelled=False), Gold.none))
    if again := twice(example.id for examples, _ in sources for example in examples):
        raise DataError(
            f"the id {again[0]!r} stands in {c.data.train} and in {c.data.unlabelled}",
            hint="ids are unique within all that a run reads",
        )
    return sources


def load_round(run: Run, number: int) -> Round:
    """The examples of a round that was begun before."""
    examples = read_examples(run.folder.path / FILE.format(number + 1), labelled=False)
    return Round(len(examples), examples, labelled=sum(example.tier is not None for example in examples))


def _add(found: Round, s: Services, examples: Sequence[Example], gold: Gold, number: int) -> None:
    """What some pairs give: asked as they are, and with hints, the least first, where that gives nothing."""
    labelled, hinted = gold != Gold.none, s.config.ground.hints and gold != Gold.none
    left = {example.id: example for example in examples if s.encoder.fits(example, hinted)}
    found.left_out["longer than task.max_prompt_tokens"] += len(examples) - len(left)
    reasons: dict[str, str] = {}
    for level in range(1 + (len(s.book.hints.levels) if hinted else 0)):
        asked = [example for example in left.values() if not level or level in hint_levels(s.book, example)]
        for example, one in zip(asked, _grounded(s, asked, gold, number, level), strict=True):
            if one.judgement:
                found.examples.append(replace(left.pop(example.id), reference=one.judgement, hint_level=0))
                found.labelled += labelled
                found.guided += level > 0
            else:
                reasons.setdefault(example.id, one.reason)
    found.left_out.update(reasons[name] for name in left)


def _grounded(s: Services, examples: Sequence[Example], gold: Gold, number: int, level: int) -> list[Grounded]:
    said, least = answer(s, examples, number, level), s.config.ground.agreement
    return [ground(s.book, example, answers, gold, least) for example, answers in zip(examples, said, strict=True)]


def answer(s: Services, examples: Sequence[Example], number: int, level: int) -> list[list[Answer]]:
    """What the engines say of every pair, in their order; seeds depend on run, round, pair and hint level alone."""
    c, found = s.config.ground, {}
    requests = [request(s, str(i), example, level, c.samples, number) for i, example in enumerate(examples)]
    for generation, _ in s.rollouts.generate(requests, sampling(s, c.temperature)):
        found[int(generation.request_id)] = _answers(s.encoder, generation)
    return [found[i] for i in range(len(examples))]


def _answers(encoder: PromptEncoder, generation: Generation) -> list[Answer]:
    answers = []
    for sample in generation.samples:
        said = None if sample.finish_reason == "length" else parse(encoder.book, sample.text, encoder.task.order)
        logprob = float(sample.logprobs.mean()) if len(sample.logprobs) else 0.0
        answers.append(Answer(said if isinstance(said, Judgement) else None, logprob))
    return answers
