"""A run on running services: how it is opened, what it measures on held-out sets, and what it leaves behind."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from agrl.config.schema import Config
from agrl.data.files import read_examples
from agrl.driver.clock import Clock
from agrl.driver.evaluate import evaluate_sets, evaluation_sets
from agrl.driver.plan import check_pool, describe
from agrl.driver.prompts import PromptEncoder
from agrl.driver.run_folder import RunFolder
from agrl.driver.services import Services, start_services
from agrl.errors import AgrlError, ConfigError
from agrl.models.tokens import load_tokenizer
from agrl.relevance.records import Example
from agrl.relevance.rulebook import load_rulebook
from agrl.report.page import write_report
from agrl.report.terminal import phase

Sets = Mapping[str, Sequence[Example]]
"""Held-out sets: name -> examples."""


class Run:
    """One run: the services that it uses, its folder, its held-out sets and its clock."""

    def __init__(self, services: Services, folder: RunFolder, sets: Sets, console, clock: Clock | None = None) -> None:
        self.s, self.folder, self.sets, self.console = services, folder, sets, console
        self.clock = clock or Clock()  # seconds of everything beside the training steps
        self.phases: Counter[str] = Counter()  # seconds of the training steps by phase
        self.wall_before = 0.0  # seconds of the processes that this one goes on from
        self.began = time.perf_counter()

    @property
    def wall_s(self) -> float:
        """Seconds that the run has taken, those before it was resumed included."""
        return self.wall_before + time.perf_counter() - self.began

    def evaluate(self, label: str) -> None:
        """Judge the held-out sets with the weights that the rollout actors have; writes evaluation/LABEL-SET.json."""
        tokens = self.s.config.task.max_response_tokens
        with phase(self.console, f"Evaluating ({label})"), self.clock("evaluate"):
            found = evaluate_sets(self.s.rollouts, self.s.encoder, self.sets, tokens)
        for name, metrics in found.items():
            about = {"label": label, "set": name, "model": self.s.config.model.path, "version": self.s.learner.version}
            self.folder.save_evaluation(label, name, metrics | about)

    def finish(self, steps: int) -> None:
        """Export the model, evaluate it, and write summary.json and report.html."""
        with self.clock("export"):
            self.s.learner.export(self.folder.model)
        self.evaluate("after")
        summary = {
            "before": self.folder.load_evaluation("before"),
            "after": self.folder.load_evaluation("after"),
            "steps": steps,
            "version": self.s.learner.version,
            "wall_s": self.wall_s,
            "phases": dict(self.phases) | self.clock.seconds,
        }
        (self.folder.path / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        with phase(self.console, "Writing the report"):
            write_report(self.folder.path)


@contextmanager
def running(config: Config, console, resume: bool = False) -> Iterator[Run]:
    """Read the data, say what is about to happen, start the services, and close them at the end.

    Raises the AgrlError that names the trouble; one from inside says how the run can be resumed.
    """
    if not config.data.train:
        raise ConfigError("data.train names no file", hint="give data.train=FILE of examples with gold tiers")
    folder, book = RunFolder(config.run), load_rulebook(config.task.rulebook)
    encoder = PromptEncoder(book, load_tokenizer(config.model.path), config.task)
    examples = read_examples(config.data.train)
    pool = encoder.fitting(examples, hinted=config.guidance.enabled)
    check_pool(config, len(pool))
    sets = evaluation_sets(config, encoder)
    folder.start(config, book, resume)
    for line in describe(config, pool_size=len(pool), too_long=len(examples) - len(pool)):
        console.print(line)
    clock = Clock()
    with phase(console, "Starting rollout, reward, replay and learner actors"), clock("start"):
        services = start_services(config, folder, pool)
        try:
            services.ready()
        except BaseException:
            services.close()
            raise
    try:
        yield Run(services, folder, sets, console, clock)
    except AgrlError as error:
        folder.say_how_to_resume(error)
        raise
    finally:
        services.close()
