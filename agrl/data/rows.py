"""The rows of a file as it holds them, Parquet or JSON lines, and what keeps a row from being read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agrl.errors import DataError

INDEX_NAME = re.compile(r"__index_level_\d+__|Unnamed: \d+(_level_\d+|\.\d+)*|index|level_\d+")
"""What pandas calls the index of a table where it writes, reads back or resets one that has no name."""

_BAD_BYTE = re.compile("[\udc80-\udcff]")  # how ``surrogateescape`` decodes a byte that is not UTF-8


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


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (line from 1, what it holds or the Problem that keeps it from being read); blank lines are passed over.

    A byte order mark is passed over too. Raises DataError when the file cannot be opened.
    """
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix("\ufeff")
            if text.strip():
                yield number, _parsed(number, text)


def _parsed(number: int, line: str) -> Any:
    if bad := _BAD_BYTE.search(line):
        byte = bad.group().encode("utf-8", "surrogateescape")[0]
        return Problem(number, "", f"not UTF-8 (byte 0x{byte:02x} at column {bad.start() + 1}); save the file as UTF-8")
    try:
        return json.loads(line, object_pairs_hook=_object)
    except _KeyTwiceError as error:
        return Problem(number, "", str(error))
    except json.JSONDecodeError as error:
        return Problem(number, "", f"not a JSON object: {error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number with thousands of digits; thousands of brackets
        return Problem(number, "", f"not a JSON object that can be read: {error}")


class _KeyTwiceError(Exception):
    """An object has a key twice: which of the values is meant, nobody can say."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _KeyTwiceError(f"the key {twice(key for key, _ in pairs)[0]!r} stands twice in one object")
    return found


def twice(names: Iterable[Any]) -> list[Any]:
    """The names that come more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def parquet_file(path: Path) -> pq.ParquetFile:
    """A file that is opened, mapped into memory. Raises DataError when it is no Parquet file, or when a column or a
    field of a struct stands in it twice."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        hint = "was it cut off? a Parquet file ends in its table of contents" if path.is_file() else ""
        raise DataError(f"{path} is not a readable Parquet file: {error}", hint=hint) from error
    if found := list(_fields_twice(file.schema_arrow)):
        raise DataError(f"{path}: the column {found[0]} stands twice", hint="leave one of them out")
    return file


def index_columns(schema: pa.Schema, known: Sequence[str]) -> list[str]:
    """The columns in which the index of a pandas table stands; never one of ``known``."""
    named = _pandas_index(schema)
    return [name for name in schema.names if name not in known and (name in named or INDEX_NAME.fullmatch(name))]


def parquet_table(path: Path, known: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """The table of a file, or of a folder of them, without the index that pandas stored with it, and the columns that
    the index stood in.

    ``known`` columns stay, whether an index or not. Raises DataError when it is no Parquet file, or when a column or a
    field of a struct stands in it twice.
    """
    if path.is_file():
        parquet_file(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    index = index_columns(table.schema, known)
    return table.drop_columns(index), index


def _fields_twice(fields: Iterable[pa.Field], above: str = "") -> Iterator[str]:
    fields = list(fields)
    for name in twice(field.name for field in fields):
        yield above + name
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _fields_twice(field.type, f"{above}{field.name}.")


def _pandas_index(schema: pa.Schema) -> list[str]:
    """The columns that pandas says it will make the index of; a range that it only describes is no column."""
    try:
        columns = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):  # the note of another program
        return []
    return [column for column in columns if isinstance(column, str)]


def parquet_rows(table: pa.Table, before: int = 0) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """Yields (row from 1, ``before`` others, the row or the Problem that keeps it from being read)."""
    number = before
    for batch in table.to_batches(max_chunksize=1024):
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError):  # bytes that are not UTF-8, a date beyond Python's: find the row
            rows = [_row(batch, index, number + index + 1) for index in range(batch.num_rows)]
        for row in rows:
            number += 1
            yield number, row


def _row(batch: pa.RecordBatch, index: int, number: int) -> dict[str, Any] | Problem:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[index].as_py()
        except (ValueError, OverflowError) as error:
            return Problem(number, _unreadable(name, column[index]), f"cannot be read: {error}")
    return row


def _unreadable(name: str, value: pa.Scalar) -> str:
    """The field inside a value that cannot be read, with dots."""
    if isinstance(value, pa.StructScalar):
        for key, part in value.items():
            try:
                part.as_py()
            except (ValueError, OverflowError):
                return _unreadable(f"{name}.{key}", part)
    return name
