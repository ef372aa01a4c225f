"""The pool of RL prompts: any number of examples, read from memory maps when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from agrl.data.columns import examples_of, from_examples, id_hashes
from agrl.data.files import SUFFIXES
from agrl.data.index import FileIndex, any_twice, open_index
from agrl.errors import DataError
from agrl.relevance.records import Example

READ_ROWS = 2**14  # at a time, of a pool that is read from end to end


class Pool(Sequence[Example]):
    """Examples by their number, made when they are asked for. Sent to another process it is opened there anew."""

    def __init__(self, parts: Sequence[FileIndex]) -> None:
        self._parts = list(parts)
        self._batches = [batch for part in parts for batch in part.batches]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Pool:
        """A pool in memory. Raises DataError when an id stands in it twice."""
        if not examples:
            raise DataError("the RL pool is empty", hint="data.train must hold at least one example")
        batch = from_examples(examples)
        with_hash = batch.append_column("hash", pa.array(id_hashes(batch.column("id"))))
        digest = hashlib.blake2b(repr(list(examples)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        pool = cls([FileIndex(Path("examples"), digest, [with_hash])])
        pool.check_ids()
        return pool

    @property
    def digests(self) -> dict[str, str]:
        """File -> digest of what it holds: by these a run knows its pool again."""
        return {str(part.file): part.digest for part in self._parts}

    def check_ids(self) -> None:
        """Raise DataError when an id stands in two places."""
        if not any_twice(np.concatenate([part.hashes() for part in self._parts])):
            return
        seen: dict[str, Path] = {}
        for part in self._parts:
            for batch in part.batches:
                for name in batch.column("id").to_pylist():
                    if name in seen:
                        where = f"{part.file}: id {name!r} is in {seen[name]} already"
                        raise DataError(where, hint="every example of a pool needs an id of its own")
                    seen[name] = part.file

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.take([index])[0]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """The examples of these numbers, in this order."""
        wanted = np.asarray(indices, np.int64)
        order = np.argsort(wanted, kind="stable")
        bounds = np.searchsorted(wanted[order], np.concatenate([[0], self._ends]))
        parts = [
            batch.take(pa.array(wanted[order[a:b]] - (end - batch.num_rows)))
            for batch, end, a, b in zip(self._batches, self._ends, bounds, bounds[1:], strict=False)
            if a < b
        ]
        if not parts:
            return []
        (together,) = pa.Table.from_batches(parts).combine_chunks().to_batches()  # at one go is several times as fast
        found: list[Example | None] = [None] * len(wanted)
        for place, example in zip(order.tolist(), examples_of(together), strict=True):
            found[place] = example
        return found

    def __iter__(self) -> Iterator[Example]:
        for begin in range(0, len(self), READ_ROWS):
            yield from self.take(range(begin, min(begin + READ_ROWS, len(self))))

    def column(self, name: str) -> Iterator[pa.Array]:
        """A column of the schema, batch by batch."""
        return (batch.column(name) for batch in self._batches)

    def __reduce__(self):
        if not self._on_disk():
            return Pool, (self._parts,)
        return _reopened, ({str(part.file.absolute()): part.digest for part in self._parts},)

    def _on_disk(self) -> bool:
        return all(part.file.suffix in SUFFIXES for part in self._parts)


def open_pool(where: str | Path, console=None) -> Pool:
    """The pool in a file, in all examples files of a folder, or in all files that a pattern such as ``part-*.parquet``
    matches, in the order of their names. ``console``: for a progress bar.

    Raises DataError that names the file, and the row and field of the first thing that is wrong in it.
    """
    pool = Pool([open_index(file, console) for file in pool_files(where)])
    if len(pool.digests) > 1:  # within a file it was looked at when the index was made
        pool.check_ids()
    return pool


def pool_files(where: str | Path) -> list[Path]:
    """The files of a pool. Raises DataError when there are none."""
    path, found = Path(where), files_in(where)
    if not found:
        raise DataError(
            f"{path} {'holds no examples files' if path.is_dir() else 'does not exist'}",
            hint=f"examples files end in {' or '.join(SUFFIXES)}; `agrl data make --out FOLDER` builds the bundled "
            "catalogue",
        )
    return found


def files_in(where: str | Path) -> list[Path]:
    """The files of a pool, if there are any."""
    path = Path(where)
    if path.is_file():
        return [path]
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    return sorted(file for file in folder.glob(pattern) if file.suffix in SUFFIXES and not file.name.startswith("."))


def _reopened(digests: Mapping[str, str]) -> Pool:
    pool = Pool([open_index(Path(file)) for file in digests])
    check_same(digests, pool.digests)
    return pool


def check_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise DataError, naming a file, unless two pools hold the same. ``before``, ``now``: their ``digests``."""
    if list(before.values()) == list(now.values()):
        return  # wherever the files are by now
    changed = [file for file, digest in before.items() if now.get(file, digest) != digest]
    gone, new = [file for file in before if file not in now], [file for file in now if file not in before]
    what = (
        [f"{changed[0]} has changed"]
        if changed
        else [f"{f} is gone" for f in gone[:1]] + [f"{f} is new" for f in new[:1]]
    )
    raise DataError(
        f"the RL pool (data.train) is not the one that this run was started with: {', '.join(what) or 'another order'}",
        hint="resume with what the run was started with, or start a new run from the exported model",
    )
