"""Reading, writing and validating examples files: Parquet (``.parquet``) or JSON lines (``.jsonl``), by suffix."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.text import Text

from agrl.data.rows import INDEX_NAME, Problem, index_columns, json_rows, parquet_rows, parquet_table
from agrl.data.schema import REQUIRED, SCHEMA, from_row, row_problems, to_row, unknown_fields
from agrl.errors import DataError
from agrl.relevance.records import Example
from agrl.report.terminal import error_console

if TYPE_CHECKING:
    from agrl.relevance.rulebook import RuleBook

SUFFIXES = (".parquet", ".jsonl")
HINT = "`agrl data validate FILE` lists everything that is wrong; docs/data.md describes the schema"


@dataclass
class Checked:
    """What is in a file: the examples of the rows that are in order, and everything wrong with the others."""

    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    index: set[str] = field(default_factory=set)  # columns that are the index of a table, and no data

    @property
    def notes(self) -> list[str]:
        """What the person is told about a file that is in order."""
        return [f"column {name} is the index of a table: passed over" for name in sorted(self.index)]


def read_examples(path: str | Path, labelled: bool = True) -> list[Example]:
    """All examples of a file. Says on standard error what it passes over (an index column).

    ``labelled``: whether every row must have a tier. Raises DataError naming file, row and field of the first thing
    that is wrong, or a file without examples.
    """
    found = check_file(path, labelled=labelled)
    for problem in found.problems:
        raise DataError(f"{path}: {problem}", hint=HINT)
    say_notes(path, found.index)
    return found.examples


def say_notes(path: str | Path, index: Iterable[str]) -> None:
    """Tell the person, on standard error, which columns of a file are passed over."""
    for note in Checked(index=set(index)).notes:
        error_console().print(Text(f"{path}: {note}"), soft_wrap=True)


def checked_rows(path: Path, rows: Iterable[tuple[int, Any]]) -> Iterator[Example]:
    """The examples of a file's (number, row), one after another. Raises DataError at the first that is not one.

    Whether an id stands twice is not looked at.
    """
    for number, row in rows:
        for problem in _problems(number, row):
            raise DataError(f"{path}: {problem}", hint=HINT)
        yield from_row(row)


def write_examples(path: str | Path, examples: Iterable[Example]) -> Path:
    """Writes the examples; Parquet or JSONL by suffix, folders made as needed.

    Raises DataError, before anything is written, for another suffix or what could not be read back.
    """
    path = known_suffix(Path(path))
    rows = [to_row(example) for example in examples]
    for row in rows:
        for name, message in row_problems(row, labelled=False):
            raise DataError(f"{path}: cannot be written: example {row['id']!r}, field {name}: {message}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def validate_file(path: str | Path, book: RuleBook | None = None, labelled: bool = True) -> list[Problem]:
    """Everything wrong with a file: fields, tiers, duplicate ids and, with a rule book, its names and decisions.

    Raises DataError only when the file cannot be read at all.
    """
    return check_file(path, book, labelled).problems


def check_file(path: str | Path, book: RuleBook | None = None, labelled: bool = True) -> Checked:
    """``validate_file`` and ``read_examples`` in one: what is in order, what is wrong, what is passed over."""
    found, first_row = Checked(), {}
    for number, row in _rows(Path(path), found.index, labelled):
        if problems := _problems(number, row, labelled):
            found.problems += problems
            continue
        example = from_row(row)
        first = first_row.setdefault(example.id, number)
        if first == number:
            found.examples.append(example)
        else:
            found.problems.append(Problem(number, "id", f"{example.id!r} is there already (row {first})"))
        if book is not None:
            found.problems += [Problem(number, *told) for told in _rule_problems(book, example)]
    if not found.examples and not found.problems:
        found.problems.append(Problem(0, "", "the file has no examples"))
    return found


def _problems(number: int, row: Any, labelled: bool = True) -> list[Problem]:
    return [row] if isinstance(row, Problem) else [Problem(number, *told) for told in row_problems(row, labelled)]


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


def _rows(path: Path, index: set[str], labelled: bool) -> Iterator[tuple[int, Any]]:
    """Yields (row from 1, the row or a Problem), columns as row 0; puts the names of index columns into ``index``."""
    if not known_suffix(path).exists():
        raise DataError(f"{path} does not exist", hint="`agrl data make --out FOLDER` builds the bundled catalogue")
    if path.suffix == ".parquet":
        table, found = parquet_table(path, SCHEMA.names)
        index.update(found)
        # a line a column says it; a line a row would not say more
        yield from list(_column_problems(table.column_names, labelled)) or parquet_rows(table)
        return
    yield from json_lines(path, index)


def json_lines(path: Path, index: set[str]) -> Iterator[tuple[int, Any]]:
    """Yields (line from 1, the row or a Problem); the names of fields that are an index are put into ``index``."""
    for number, row in json_rows(path):
        if isinstance(row, dict):
            found = [key for key in row if INDEX_NAME.fullmatch(key) and key not in SCHEMA.names]
            index.update(found)
            row = {key: value for key, value in row.items() if key not in found} if found else row
        yield number, row


def known_columns(path: Path, schema: pa.Schema) -> tuple[list[str], list[str]]:
    """(columns of examples, columns of an index) in a Parquet file. Raises DataError for one too many or too few."""
    index = index_columns(schema, SCHEMA.names)
    columns = [name for name in schema.names if name not in index]
    for _, problem in _column_problems(columns):
        raise DataError(f"{path}: {problem}", hint=HINT)
    return columns, index


def _column_problems(columns: Sequence[str], labelled: bool = True) -> Iterator[tuple[int, Problem]]:
    for name in (*REQUIRED, "tier") if labelled else REQUIRED:
        if name not in columns:
            yield 0, Problem(0, name, "the column is missing")
    for told in unknown_fields(columns, SCHEMA.names, "", "unknown column; the columns are"):
        yield 0, Problem(0, *told)


def known_suffix(path: Path) -> Path:
    """The path. Raises DataError for a kind of file that holds no examples."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: unknown kind of file", hint=f"examples files end in {' or '.join(SUFFIXES)}")
    return path
