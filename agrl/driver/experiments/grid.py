"""Which runs ``agrl reproduce`` makes: methods x supervised starts x seeds, and what configures each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from string import Formatter

from agrl.config.words import quoted, setting
from agrl.errors import ConfigError

AT = "@"
"""Between a method and its number of labels: "ground@1000" knows 1,000 labels of the pool."""


class Kind(Enum):
    """What makes the run of a cell."""

    baseline = "baseline"  # no language model: learned from the gold tiers of the pool in a moment
    start = "start"  # supervised, from a model that knows nothing
    supervised = "supervised"  # supervised, on from the start
    grounded = "grounded"  # supervised, on from the start, on its own readings with gold after them
    preference = "preference"
    reinforced = "reinforced"


@dataclass(frozen=True)
class Method:
    """One row of the table.

    ``overrides``: its configuration, on top of the grid's; "{train}" stands for the file of that name. ``origin``: the
    method whose model it goes on from, "" for one that knows nothing. ``control``: run with fewer seeds.
    """

    kind: Kind
    overrides: tuple[str, ...] = ()
    origin: str = "sft"
    control: bool = False

    @property
    def files(self) -> set[str]:
        """The data files that its overrides name."""
        return {name for word in self.overrides for _, name, _, _ in Formatter().parse(word) if name}


CONTINUED = ("sft.steps=500", "sft.lr=1e-3")  # on from a start: shorter, and at a lower rate

METHODS: dict[str, Method] = {
    "majority": Method(Kind.baseline, origin=""),
    "tfidf_logistic": Method(Kind.baseline, origin=""),
    "sft": Method(Kind.start, origin=""),
    "dpo": Method(Kind.preference),
    "grpo": Method(Kind.reinforced, ("algorithm=grpo",)),
    "grpo_rrs": Method(Kind.reinforced, ("algorithm=grpo_rrs",)),
    "grpo_agr": Method(Kind.reinforced, ("algorithm=grpo_agr",)),
    "agrl": Method(Kind.reinforced, ("algorithm=agrl",)),
    "sft_teacher_reasoning": Method(Kind.supervised, (*CONTINUED, "data.seed={train_teacher}"), control=True),
    "sft_tier_only": Method(Kind.supervised, (*CONTINUED, "data.seed={train}", "task.order=tier_only"), control=True),
    "sft_verdicts": Method(
        Kind.supervised, (*CONTINUED, "data.seed={train}", "task.order=verdicts_only"), control=True
    ),
    "ground_unguided": Method(Kind.grounded, (*CONTINUED, "ground.hints=false"), control=True),
    "ground": Method(Kind.grounded, CONTINUED, control=True),
    "ground_tier": Method(Kind.grounded, (*CONTINUED, "ground.gold=tier"), control=True),
    "ground_again": Method(Kind.grounded, (*CONTINUED, "ground.rounds=2"), control=True),
    "sft_true_reasoning": Method(Kind.supervised, (*CONTINUED, "data.seed={train_true}"), control=True),
    "sft_no_hints": Method(Kind.start, ("sft.hints=false",), origin="", control=True),
    "agrl_no_hints": Method(Kind.reinforced, ("algorithm=agrl",), origin="sft_no_hints", control=True),
}
"""Every method there is, in the order of the table: a method stands after the one that it goes on from."""


def method_of(name: str) -> Method:
    """The method of a cell, whatever its number of labels. Raises KeyError."""
    return METHODS[name.partition(AT)[0]]


def labels_of(name: str) -> int:
    """How many labels of the pool a cell's method knows, 0 for all."""
    return int(name.partition(AT)[2] or 0)


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    method: str
    start: int
    seed: int

    def folder(self, out: Path) -> Path:
        """Where the run is."""
        return out / "runs" / self.method / f"start-{self.start}" / f"seed-{self.seed}"

    @property
    def before(self) -> Cell | None:
        """The run that this one goes on from."""
        origin = method_of(self.method).origin
        return Cell(origin, self.start, 0) if origin else None

    def origin(self, out: Path) -> Path:
        """The model folder that the run begins with."""
        return self.before.folder(out) / "model" if self.before else out / "models" / f"start-{self.start}"

    def __str__(self) -> str:
        return f"{self.method}, start {self.start}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """What to run.

    ``seeds``: of every RL and DPO method and start; ``control_seeds``: of the controls. ``labels``: every method but
    the starts with each of these numbers of labels; none: with all.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    starts: int = 2
    seeds: int = 5
    control_seeds: int = 1
    first_seed: int = 0  # of the catalogue, the starts and the runs: others are numbered on from it
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if few := [count for count in self.labels if count < 1]:
            raise ConfigError(f"--labels {few[0]} must be at least 1")
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ConfigError(f"unknown method {unknown[0]!r}", hint=f"methods: {', '.join(METHODS)}")
        for name in ("starts", "seeds", "control_seeds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}={getattr(self, name)} must be at least 1")

    def cells(self) -> Iterator[Cell]:
        """The runs in an order in which each comes after the one that it goes on from: the starts first."""
        wanted = {*self.methods, *(METHODS[name].origin for name in self.methods)}
        names = sorted((name for name in METHODS if name in wanted), key=lambda n: bool(METHODS[n].origin))
        for name in names:
            method = METHODS[name]
            for count in self.labels if method.kind != Kind.start and self.labels else (0,):
                for start in range(1 if method.kind == Kind.baseline else self.starts):
                    for seed in range(self._seeds(method)):
                        yield Cell(f"{name}{AT}{count}" if count else name, start, seed)

    def _seeds(self, method: Method) -> int:
        if not method.origin:
            return 1
        return min(self.control_seeds, self.seeds) if method.control else self.seeds

    def overrides(self, cell: Cell, out: Path, files: dict[str, str]) -> list[str]:
        """What configures a cell's run beside the overrides of the whole grid.

        ``files``: name -> path of the data; "model": what the starts begin with, where they have none of their own.
        """
        quotable = {name: quoted(path) for name, path in self.files_of(cell, files).items()}
        return [
            *(["data.train={train}".format_map(quotable)] if labels_of(cell.method) else ()),
            *(["data.unlabelled={unlabelled}".format_map(quotable)] if "unlabelled" in quotable else ()),
            *(word.format_map(quotable) for word in method_of(cell.method).overrides),
            setting("run", cell.folder(out)),
            setting("model.path", files["model"] if "model" in files and not cell.before else cell.origin(out)),
            f"trainer.seed={self.seed_of(cell)}",
        ]

    @staticmethod
    def files_of(cell: Cell, files: dict[str, str]) -> dict[str, str]:
        """Name -> path of the data as the cell sees them: with some labels, "train" are the rows that have them."""
        _, at, count = cell.method.partition(AT)
        own = {name: files[f"{name}{at}{count}"] for name in ("train", "unlabelled") if f"{name}{at}{count}" in files}
        whole = {"seed", "model"} if count else files.keys()
        return {name: path for name, path in files.items() if name in whole} | own

    def seed_of(self, cell: Cell) -> int:
        """A start is one seed of supervised training; the runs from it have their own, the same for every method."""
        is_first = cell.before is None
        return self.first_seed + (cell.start if is_first else 1000 * (cell.start + 1) + cell.seed)
