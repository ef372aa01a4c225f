"""Reading, writing and validating examples files: Parquet (``.parquet``) or JSON lines (``.jsonl``), by suffix."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from agrl.data.schema import REQUIRED, SCHEMA, from_row, row_problems, to_row
from agrl.errors import DataError
from agrl.relevance.records import Example

if TYPE_CHECKING:
    from agrl.relevance.rulebook import RuleBook

SUFFIXES = (".parquet", ".jsonl")
_HINT = "`agrl data validate FILE` lists everything that is wrong; docs/data.md describes the schema"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file. ``row`` counts from 1 (the line of a JSONL file); 0 is the file as a whole."""

    row: int
    field: str
    message: str

    def __str__(self) -> str:
        return ", ".join([f"row {self.row}"] * bool(self.row) + [f"field {self.field}"] * bool(self.field)) + (
            f": {self.message}" if self.row or self.field else self.message
        )


def read_examples(path: str | Path) -> list[Example]:
    """All examples of a file. Raises DataError naming file, row and field of the first thing that is wrong."""
    examples, seen = [], set()
    for number, row, problems in _checked_rows(Path(path)):
        for problem in problems:
            raise DataError(f"{path}: {problem}", hint=_HINT)
        example = from_row(row)
        if example.id in seen:
            raise DataError(f"{path}: {_duplicate(number, example.id)}", hint=_HINT)
        seen.add(example.id)
        examples.append(example)
    return examples


def write_examples(path: str | Path, examples: Iterable[Example]) -> Path:
    """Writes the examples; Parquet or JSONL by suffix, folders made as needed. Raises DataError for another suffix."""
    path = _known(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [to_row(example) for example in examples]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def validate_file(path: str | Path, book: RuleBook | None = None) -> list[Problem]:
    """Everything wrong with a file: fields, tiers, duplicate ids and, with a rule book, its names and decisions.

    Raises DataError only when the file cannot be read at all.
    """
    found: list[Problem] = []
    first_row: dict[str, int] = {}
    for number, row, problems in _checked_rows(Path(path)):
        found += problems
        if problems:
            continue
        example = from_row(row)
        if example.id in first_row:
            found.append(_duplicate(number, example.id, first_row[example.id]))
        first_row.setdefault(example.id, number)
        if book is not None:
            found += [Problem(number, field, message) for field, message in _rule_problems(book, example)]
    if not first_row and not found:
        found.append(Problem(0, "", "the file has no examples"))
    return found


def _duplicate(number: int, example_id: str, first: int = 0) -> Problem:
    return Problem(number, "id", f"{example_id!r} is there already" + (f" (row {first})" if first else ""))


def _rule_problems(book: RuleBook, example: Example) -> Iterator[tuple[str, str]]:
    """Where an example uses names that the rule book lacks, or contradicts its decision table."""
    judged = [("", example.verdicts, example.tier)]
    if example.reference is not None:
        judged.append(("reference.", example.reference.verdicts, None))
    for prefix, verdicts, tier in judged:
        unknown = False
        for criterion, verdict in verdicts.items():
            known = book.criteria[criterion].verdicts if criterion in book.criteria else None
            if known is None:
                yield f"{prefix}verdicts", f"rule book {book.name} has no criterion {criterion!r}"
            elif verdict not in known:
                yield f"{prefix}verdicts.{criterion}", f"unknown verdict {verdict!r}; expected {', '.join(known)}"
            unknown = unknown or known is None or verdict not in known
        # The tier of a reference may contradict the table: a teacher need not know the shop's rules.
        if tier is not None and not unknown and verdicts.keys() == book.criteria.keys():
            decided = book.decide(verdicts)
            if decided != tier:
                yield "tier", f"is {tier}, but rule book {book.name} decides {decided} from the verdicts {verdicts}"
    if example.hint_level > len(book.hints.levels):
        yield "hint_level", f"is {example.hint_level}; rule book {book.name} has {len(book.hints.levels)} hint levels"
    for section in (example.reference.readings if example.reference else {}).keys() - book.sections.keys():
        yield "reference.readings", f"rule book {book.name} has no section {section!r}"
    if example.reference is not None and (missing := book.criteria.keys() - example.reference.verdicts.keys()):
        yield "reference.verdicts", f"no verdict for {', '.join(sorted(missing))}"


def _checked_rows(path: Path) -> Iterator[tuple[int, Any, list[Problem]]]:
    """Yields (row number, row, its problems); missing columns come as row 0."""
    if not _known(path).exists():
        raise DataError(f"{path} does not exist", hint="`agrl data make --out FOLDER` builds the bundled catalogue")
    for number, row in _parquet_rows(path) if path.suffix == ".parquet" else json_rows(path):
        if isinstance(row, Problem):
            yield number, None, [row]
        else:
            yield number, row, [Problem(number, field, message) for field, message in row_problems(row)]


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    wrong = [Problem(0, column, "the column is missing") for column in REQUIRED if column not in table.column_names]
    unknown = [column for column in table.column_names if column not in SCHEMA.names]
    wrong += [Problem(0, column, f"unknown column; the columns are {', '.join(SCHEMA.names)}") for column in unknown]
    if wrong:  # one line a column says it; a line a row would not say more
        yield from ((0, problem) for problem in wrong)
        return
    number = 0
    for batch in table.to_batches():
        for row in batch.to_pylist():
            number += 1
            yield number, row


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (line from 1, what it holds or the Problem that it is not JSON); blank lines are passed over."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, Problem(number, "", f"not a JSON object: {error.msg} at column {error.colno}")


def _known(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file", hint=f"examples files end in {' or '.join(SUFFIXES)}")
    return path
