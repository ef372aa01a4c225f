"""Query texts that a model is trained on and evaluated on: scores on them say little about queries that are new."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agrl.data.pool import Pool
from agrl.relevance.records import Example

SHOWN = 3  # queries that a line names
AT_A_TIME = 4096  # examples of a pool
ODD = r"[\x00-\x1f\x7f]|  |^ | $"  # where ASCII text in lower case is not normalised


@dataclass(frozen=True)
class Leak:
    """What a held-out set shares with a training set. Its text is a line for the person."""

    trained: str  # names of the two
    held_out: str
    queries: tuple[str, ...]  # as the held-out set first writes them, each text once
    rows: int  # of the held-out set, with such a query
    pairs: int  # of these, with a product of the same title as well
    of: int  # rows of the held-out set

    def __str__(self) -> str:
        texts = "text" if len(self.queries) == 1 else "texts"
        named = ", ".join(map(repr, self.queries[:SHOWN])) + ", ..." * (len(self.queries) > SHOWN)
        return (
            f"possible leak: {self.held_out} and {self.trained} have {len(self.queries):,} query {texts} in common "
            f"({named}): {self.rows:,} of {self.of:,} rows of {self.held_out}, "
            f"{f'{self.pairs:,}' if self.pairs else 'none'} of them with the same title as well"
        )


def normalised(text: str) -> str:
    """The text without differences of case, width (NFKC) and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shared_queries(trained: Mapping[str, Iterable[Example]], held_out: Mapping[str, Iterable[Example]]) -> list[Leak]:
    """One Leak for every training set and held-out set (by name) that have a query text in common."""
    titles = {name: _titles_by_query(examples) for name, examples in trained.items()}
    leaks = []
    for name, examples in held_out.items():
        rows = [(e.query, normalised(e.query), normalised(e.product.title)) for e in examples]
        for source, known in titles.items():
            shared = [row for row in rows if row[1] in known]
            if shared:
                first = {text: query for query, text, _ in reversed(shared)}
                queries = tuple(first[text] for text in dict.fromkeys(text for _, text, _ in shared))
                pairs = sum(title in known[text] for _, text, title in shared)
                leaks.append(Leak(source, name, queries, len(shared), pairs, len(rows)))
    return leaks


def leaks_of_pool(name: str, pool: Pool, held_out: Mapping[str, Sequence[Example]]) -> list[Leak]:
    """``shared_queries`` of a pool that may be large: only examples with a query of the held-out sets are made."""
    queries = {normalised(example.query) for examples in held_out.values() for example in examples}
    return shared_queries({name: _with_query(pool, queries)}, held_out)


def _with_query(pool: Pool, queries: set[str]) -> Iterator[Example]:
    """The examples whose query, normalised, is one of ``queries``."""
    wanted, before = pa.array(sorted(queries), pa.string()), 0
    for texts in pool.column("query"):
        unlike = pc.or_(pc.invert(pc.string_is_ascii(texts)), pc.match_substring_regex(texts, ODD))
        found = pc.and_not(pc.is_in(pc.ascii_lower(texts), wanted), unlike).to_numpy(zero_copy_only=False)
        others = np.flatnonzero(unlike.to_numpy(zero_copy_only=False))
        texts_of_others = texts.take(pa.array(others)).to_pylist()
        found[[i for i, text in zip(others, texts_of_others, strict=True) if normalised(text) in queries]] = True
        rows = before + np.flatnonzero(found)
        for begin in range(0, len(rows), AT_A_TIME):
            yield from pool.take(rows[begin : begin + AT_A_TIME])
        before += len(texts)


def _titles_by_query(examples: Iterable[Example]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for example in examples:
        found.setdefault(normalised(example.query), set()).add(normalised(example.product.title))
    return found
