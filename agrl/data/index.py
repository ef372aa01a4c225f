"""The index of an examples file: its rows, checked once, in an Arrow file beside it that is mapped into memory.

It is made when the file is first used as a pool, and again when the file has changed. Where nothing can be written
beside the file, it is kept in the cache folder of the user.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.text import Text

from agrl.data.columns import STORED, as_stored, from_examples, id_hashes
from agrl.data.files import HINT, check_file, checked_rows, json_lines, known_columns, known_suffix, say_notes
from agrl.data.rows import parquet_file, parquet_rows
from agrl.errors import DataError
from agrl.relevance.records import Example
from agrl.report.progress import progress
from agrl.report.terminal import error_console

VERSION = 1  # of what an index holds: others are made anew
HASH = pa.field("hash", pa.uint64(), nullable=False)
ABOUT = b"agrl"
BATCH_BYTES = 2**28  # of rows that are checked together
MOST_ROWS = 2**18  # in a batch: few batches make random access fast
JSON_ROWS = 2**15  # of a JSON lines file in a batch
LARGE = 100_000  # rows from which a progress bar is shown


@dataclass(frozen=True)
class FileIndex:
    """The rows of ``file``, as batches with the columns of ``STORED`` and ``HASH``. ``digest``: of the file's bytes."""

    file: Path
    digest: str
    batches: list[pa.RecordBatch]

    def hashes(self) -> np.ndarray:
        """uint64 [rows]: of the ids."""
        return np.concatenate([batch.column(HASH.name).to_numpy() for batch in self.batches])


def open_index(file: Path, console=None) -> FileIndex:
    """The index of an examples file, made first where there is none of this very file.

    ``console``: for a progress bar. Raises DataError that names file, row and field of the first thing that is wrong.
    """
    now = _state(file)
    places = [file.with_name(f".{file.name}.index.arrow"), _cache(file)]
    for place in places:
        if (found := _opened(file, place, now)) is not None:
            return found
    about = now | {"digest": _digest(file)}
    for place in places:
        partial = place.with_name(f"{place.name}.{secrets.token_hex(4)}.partial")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            sink = pa.OSFile(str(partial), "wb")
        except OSError:
            if place is places[-1]:
                raise
            continue
        try:
            with sink:
                _write(file, sink, about, console)
            if _state(file) != now:
                raise DataError(f"{file} was changed while it was read", hint="start again when it is whole")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        if place is not places[0]:
            error_console().print(
                Text(f"{file}: its index is {place}: beside it nothing can be written"), soft_wrap=True
            )
        return _opened(file, place, now)
    raise AssertionError("the last place is there, or its error was raised")


def _state(file: Path) -> dict[str, int]:
    """What tells one state of a file from another without reading it."""
    try:
        stat = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    return {"version": VERSION, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _cache(file: Path) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agrl"
    return folder / f"{hashlib.blake2b(str(file.absolute()).encode(), digest_size=8).hexdigest()}.index.arrow"


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _opened(file: Path, place: Path, now: dict[str, int]) -> FileIndex | None:
    """The index in ``place``, or None where there is none of the present state of the file."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(place)))
        about = json.loads(reader.schema.metadata[ABOUT])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    if now.items() - about.items():
        return None
    return FileIndex(file, about["digest"], [reader.get_batch(i) for i in range(reader.num_record_batches)])


def _write(file: Path, sink: pa.NativeFile, about: dict, console) -> None:
    schema = STORED.append(HASH).with_metadata({ABOUT: json.dumps(about).encode()})
    total, batches = _batches(file)
    hashes = [np.zeros(0, np.uint64)]
    with (
        pa.ipc.new_file(sink, schema) as writer,
        progress(console if total >= LARGE else None, f"Indexing {file.name}", total) as bar,
    ):
        for batch in batches:
            hashes.append(id_hashes(batch.column("id")))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, pa.array(hashes[-1])], schema=schema))
            bar.advance(batch.num_rows)
    if len(hashes) == 1:
        raise DataError(f"{file}: the file has no examples", hint=HINT)
    if any_twice(np.concatenate(hashes)):
        for problem in check_file(file).problems:  # none where two ids have the same hash only
            raise DataError(f"{file}: {problem}", hint=HINT)


def any_twice(hashes: np.ndarray) -> bool:
    """Whether two of them are equal."""
    ordered = np.sort(hashes)
    return bool((ordered[1:] == ordered[:-1]).any())


def _batches(file: Path) -> tuple[int, Iterator[pa.RecordBatch]]:
    """(rows, batches of ``STORED``) of a file; of JSON lines as many as there are lines, blank ones included."""
    if known_suffix(file).suffix == ".parquet":
        parquet = parquet_file(file)
        return parquet.metadata.num_rows, _parquet_batches(file, parquet)
    with file.open("rb") as opened:
        lines = sum(block.count(b"\n") for block in iter(lambda: opened.read(2**20), b""))
    return lines, _json_batches(file)


def _json_batches(file: Path) -> Iterator[pa.RecordBatch]:
    index: set[str] = set()
    for examples in _in_turns(checked_rows(file, json_lines(file, index))):
        yield from_examples(examples)
    say_notes(file, index)


def _in_turns(examples: Iterator[Example]) -> Iterator[list[Example]]:
    turn: list[Example] = []
    for example in examples:
        turn.append(example)
        if len(turn) == JSON_ROWS:
            yield turn
            turn = []
    if turn:
        yield turn


def _parquet_batches(file: Path, parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    columns, index = known_columns(file, parquet.schema_arrow)
    say_notes(file, index)
    about, done = parquet.metadata, 0
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups)) // max(about.num_rows, 1)
    rows = max(1, min(MOST_ROWS, BATCH_BYTES // max(size, 1)))
    try:
        for batch in parquet.iter_batches(batch_size=rows, columns=columns):
            yield as_stored(batch) or _row_by_row(file, batch, done)
            done += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file} is damaged after row {done}: {error}", hint="was it cut off? write or copy it again"
        ) from error


def _row_by_row(file: Path, batch: pa.RecordBatch, before: int) -> pa.RecordBatch:
    """The examples of a batch whose rows follow ``before`` others. Raises DataError for the first that is not one."""
    rows = parquet_rows(pa.Table.from_batches([batch]), before)
    return from_examples(list(checked_rows(file, rows)))
