"""Everything that decides what catalogue is built. Imports nothing heavy: the command line makes its flags of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from agrl.errors import DataError


def _setting(default: float | str, meaning: str):
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class TeacherErrors:
    """How often, in [0, 1], the teacher makes each of its mistakes where there is occasion for it."""

    negation: float = _setting(0.95, "overlooks what is to be avoided ('not X')")
    alternative: float = _setting(0.95, "reads 'alternative to X' as 'X'")
    implicit: float = _setting(0.95, "overlooks a need that is not named ('for camping')")
    accessory: float = _setting(0.95, "takes an accessory for the thing that it belongs to")
    partial: float = _setting(0.95, "calls needs that are met in part met")
    substitute: float = _setting(0.5, "calls a substitute unrelated")
    table: float = _setting(0.95, "decides the tier by a table of its own instead of the shop's")

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            _check_share(f"the teacher's error rate {name}", rate)


@dataclass(frozen=True)
class CatalogueSpec:
    """Seed, sizes and rates. Equal specs give equal files."""

    seed: int = _setting(0, "seed of all randomness")
    seed_rows: int = _setting(12_000, "rows of seed.parquet")
    pool_rows: int = _setting(8_000, "rows of train.parquet")
    balanced_rows: int = _setting(600, "rows of balanced.parquet")
    wild_rows: int = _setting(600, "rows of wild.parquet")
    hinted_share: float = _setting(0.2, "share of the seed rows that show a hint")
    rulebook: str = _setting("relevance", "rule book that decides the gold tiers, with the criteria of `relevance`")
    teacher: TeacherErrors = field(default_factory=TeacherErrors)

    def __post_init__(self) -> None:
        for setting in fields(self):
            rows = getattr(self, setting.name)
            if setting.name.endswith("_rows") and rows < 1:
                raise DataError(f"{setting.name} is {rows}", hint="every file needs at least one row")
        _check_share("hinted_share", self.hinted_share)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise DataError(f"{name} is {value}", hint="give a share from 0 to 1")
