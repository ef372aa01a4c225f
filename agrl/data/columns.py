"""Examples in columns: Arrow batches, checked as a whole where that can be, and read back as examples."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agrl.data.schema import SCHEMA, to_row
from agrl.relevance.records import TIERS, Example, Judgement, Product

BLANK = "".join(character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace())
"""What ``str.strip`` takes off."""

_BITS = 62  # names of a column that fit in a mask


def _nullable(field: pa.Field) -> pa.Field:
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_nullable(child) for child in kind])
    return pa.field(field.name, kind)


STORED = pa.schema([_nullable(field) for field in SCHEMA])
"""``SCHEMA`` in which everything may be null: of rows that are known to be in order."""


def from_examples(examples: Sequence[Example]) -> pa.RecordBatch:
    """The examples as a batch of ``STORED``."""
    return pa.RecordBatch.from_pylist([to_row(example) for example in examples], schema=STORED)


def as_stored(batch: pa.RecordBatch) -> pa.RecordBatch | None:
    """The batch in the types of ``STORED``; None when it cannot be said of it as a whole that every row is in order.

    What is None here may still be in order: ``agrl.data.schema.row_problems`` decides, row by row.
    """
    try:
        columns = [_as(field.type, _column(batch, field)) for field in STORED]
        found = pa.RecordBatch.from_arrays(columns, schema=STORED)
        found.validate(full=True)  # text is UTF-8
    except (pa.ArrowException, TypeError):
        return None
    return found if _in_order(found) else None


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name in batch.schema.names:
        return batch.column(field.name)
    return pa.nulls(batch.num_rows, field.type)


def _as(kind: pa.DataType, array: pa.Array) -> pa.Array:
    """The array in another type. Raises pa.ArrowException or TypeError where a value would change or be lost."""
    if array.type == kind:
        return array
    if not pa.types.is_struct(kind) or pa.types.is_null(array.type):
        return array.cast(kind)
    if not pa.types.is_struct(array.type) or {f.name for f in array.type} - {f.name for f in kind}:
        raise TypeError(f"{array.type} is not {kind}")
    has = dict(zip([f.name for f in array.type], array.flatten(), strict=True))
    parts = [_as(f.type, has[f.name]) if f.name in has else pa.nulls(len(array), f.type) for f in kind]
    return pa.StructArray.from_arrays(parts, fields=list(kind), mask=array.is_null())


def _in_order(batch: pa.RecordBatch) -> bool:
    product, reference = _fields(batch.column("product")), _fields(batch.column("reference"))
    texts = (batch.column("id"), batch.column("query"), product["title"])
    maps = (batch.column("verdicts"), product["attributes"], reference["verdicts"], reference["readings"])
    hints, judged = batch.column("hint_level"), batch.column("reference").drop_null()
    return (
        batch.num_rows > 0
        and all(map(_say_something, texts))
        and _are_tiers(batch.column("tier"))
        and (len(judged) == 0 or _are_tiers(_fields(judged)["tier"]))
        and (hints.null_count == len(hints) or pc.min(hints).as_py() >= 0)
        and all(map(_names_stand_once, maps))
    )


def _say_something(texts: pa.Array) -> bool:
    return texts.null_count == 0 and pc.min(pc.binary_length(pc.utf8_trim(texts, BLANK))).as_py() > 0


def _are_tiers(tiers: pa.Array) -> bool:
    known = pc.min_max(tiers).as_py()
    return tiers.null_count == 0 and min(TIERS) <= known["min"] and known["max"] <= max(TIERS)


def _names_stand_once(maps: pa.MapArray) -> bool:
    """Whether no map of a column has a name twice."""
    keys, starts, _ = _entries(maps)
    if not len(keys):
        return True
    if keys.null_count:
        return False
    coded = keys.dictionary_encode()
    codes = coded.indices.to_numpy().astype(np.uint64)
    if len(coded.dictionary) > _BITS:
        owner = np.repeat(np.arange(len(maps), dtype=np.uint64), np.diff(starts))
        return len(np.unique(owner * np.uint64(len(coded.dictionary)) + codes)) == len(codes)
    masks, begins = np.uint64(1) << codes, starts[:-1][np.diff(starts) > 0]  # powers of two add up to their union
    return bool(np.array_equal(np.add.reduceat(masks, begins), np.bitwise_or.reduceat(masks, begins)))


def _entries(maps: pa.MapArray) -> tuple[pa.Array, np.ndarray, pa.Array]:
    """(keys, where each map's begin and the last one's end, items) of the maps alone, not of those beside a slice."""
    offsets = maps.offsets.to_numpy()
    begin, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    return maps.keys.slice(begin, length), offsets - begin, maps.items.slice(begin, length)


def _fields(array: pa.StructArray) -> dict[str, pa.Array]:
    return dict(zip([field.name for field in array.type], array.flatten(), strict=True))


def examples_of(batch: pa.RecordBatch) -> list[Example]:
    """The examples of a batch of ``STORED`` whose rows are in order."""
    product, reference = _fields(batch.column("product")), _fields(batch.column("reference"))
    products = map(
        Product,
        _texts(product["title"]),
        _texts(product["category"]),
        _texts(product["brand"]),
        _maps(product["attributes"]),
        _texts(product["text"]),
    )
    tiers = reference["tier"].to_pylist()  # a reference without one says nothing
    judgements = zip(tiers, _maps(reference["verdicts"]), _maps(reference["readings"]), strict=True)
    references = (None if tier is None else Judgement(tier, *maps) for tier, *maps in judgements)
    return list(
        map(
            Example,
            _texts(batch.column("id")),
            _texts(batch.column("query")),
            products,
            batch.column("tier").to_pylist(),
            _maps(batch.column("verdicts")),
            references,
            _texts(batch.column("segment"), "plain"),
            [level or 0 for level in batch.column("hint_level").to_pylist()],
        )
    )


def _texts(array: pa.Array, absent: str = "") -> list[str]:
    """By way of numpy, which makes strings ten times faster than Arrow does."""
    return [text or absent for text in array.to_numpy(zero_copy_only=False).tolist()]


def _maps(maps: pa.MapArray) -> list[dict[str, str]]:
    keys, starts, items = _entries(maps)
    bounds, given = starts.tolist(), maps.is_valid().to_pylist()
    keys, items = (part.to_numpy(zero_copy_only=False).tolist() for part in (keys, items))
    return [
        {k: v for k, v in zip(keys[a:b], items[a:b], strict=True) if v is not None} if valid else {}
        for a, b, valid in zip(bounds, bounds[1:], given, strict=False)
    ]


def id_hashes(ids: pa.StringArray) -> np.ndarray:
    """uint64 [N]: equal for equal ids, and nearly never for others (a polynomial in their bytes, modulo 2^64)."""
    if not len(ids):
        return np.zeros(0, np.uint64)
    _, offsets, data = ids.buffers()
    ends = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    lengths, begins = np.diff(ends), ends[:-1] - ends[0]
    values = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    position = np.arange(len(values)) - np.repeat(begins, lengths)
    with np.errstate(over="ignore"):
        powers = np.multiply.accumulate(np.full(int(lengths.max()) + 1, 0x9E3779B97F4A7C15, np.uint64))
        return np.add.reduceat((values + np.uint64(1)) * powers[position], begins)
