"""The sound rows of the two files of ESCI, and what was left out of them: whatever the types of their columns are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agrl.data.schema import shown
from agrl.errors import DataError
from agrl.relevance.records import Product

EXAMPLES_FILE = "shopping_queries_dataset_examples.parquet"
PRODUCTS_FILE = "shopping_queries_dataset_products.parquet"
LABELS = ("E", "S", "C", "I")
SPLITS = ("train", "test")

_EXAMPLE_COLUMNS = ("query", "query_id", "product_id", "product_locale", "esci_label", "split")
_PRODUCT_COLUMNS = ("product_title", "product_description", "product_bullet_point", "product_brand", "product_color")
_KEYS = ("product_id", "product_locale")
_ROWS_NAMED = 5

Text = str | bytes | None
"""A cell: bytes are what is not UTF-8."""

Key = tuple[str, str]
"""A product: id and locale."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A row of the examples file that is sound in itself."""

    row: int  # from 1
    query: str
    query_id: str
    product: Key
    label: str
    split: str

    @property
    def id(self) -> str:
        """Of the example; the same for the same pair."""
        return f"{self.query_id}-{self.product[1]}-{self.product[0]}"


@dataclass
class LeftOut:
    """What is not imported: (file, reason) -> rows, from 1."""

    rows: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, file: str, row: int, reason: str) -> None:
        """Notes a row."""
        self.rows.setdefault((file, reason), []).append(row)

    def lines(self) -> list[str]:
        """A line for every file and reason, the most rows first, with the first few of its rows."""
        return [
            f"{file}: left out {len(rows):,} row{'s' * (len(rows) > 1)}, {reason} (row "
            + ", ".join(map(str, rows[:_ROWS_NAMED]))
            + ", ..." * (len(rows) > _ROWS_NAMED)
            + ")"
            for (file, reason), rows in sorted(self.rows.items(), key=lambda item: -len(item[1]))
        ]


def read_judged(folder: Path, locale: str, version: str, left: LeftOut) -> list[Judged]:
    """The sound rows of the examples file in its order; a pair that is judged twice comes once, or not at all.

    ``locale``, ``version``: as for ``import_esci``. Raises DataError when the file is not of the layout or holds no
    rows of this locale and version.
    """
    flag = f"{version}_version" if version else ""
    columns = _read(folder / EXAMPLES_FILE, [*_EXAMPLE_COLUMNS, *[flag] * bool(flag)])
    found, asked = [], 0
    for number, cells in enumerate(zip(*columns.values(), strict=True), 1):
        row = dict(zip(columns, cells, strict=True))
        if not _is_asked(row, locale, flag):
            continue
        asked += 1
        if reason := _fault(row, flag):
            left.add(EXAMPLES_FILE, number, reason)
        else:
            product = (row["product_id"], row["product_locale"])
            found.append(Judged(number, row["query"], row["query_id"], product, row["esci_label"], row["split"]))
    if not asked:
        raise DataError(
            f"{folder / EXAMPLES_FILE}: no rows for locale {locale or 'any'}, version {version or 'any'}",
            hint="give another --locale (us, es, jp, or all)",
        )
    return list(_judged_once(found, left))


def _is_asked(row: dict[str, Text], locale: str, flag: str) -> bool:
    """Whether a row may be of the locale and version that are asked for; where it does not say so, it is a fault."""
    elsewhere = locale and not _unsaid("product_locale", row["product_locale"]) and row["product_locale"] != locale
    return not elsewhere and not (flag and _flag(row[flag]) is False)


def _flag(value: Text) -> bool | None:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(value).casefold())


def _fault(row: dict[str, Text], flag: str) -> str:
    """Why a row cannot be an example; "" for a sound one."""
    for name in ("query", "query_id", *_KEYS):
        if reason := _unsaid(name, row[name]):
            return reason
    if row["esci_label"] not in LABELS:
        return f"esci_label is {shown(row['esci_label'])}, none of {', '.join(LABELS)}"
    if row["split"] not in SPLITS:
        return f"split is {shown(row['split'])}, none of {', '.join(SPLITS)}"
    return f"{flag} is {shown(row[flag])}, not 1 or 0" if flag and _flag(row[flag]) is None else ""


def _unsaid(name: str, value: Text) -> str:
    if isinstance(value, bytes):
        return f"{name} is not UTF-8"
    if value is None:
        return f"{name} is missing"
    return "" if value.strip() else f"{name} is blank"


def _judged_once(rows: list[Judged], left: LeftOut) -> Iterator[Judged]:
    """The first of the rows of a pair where they agree; none where they do not: which label is right, is unknown."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row.id, set()).add(row.label)
    done = set()
    for row in rows:
        if len(labels[row.id]) > 1:
            left.add(EXAMPLES_FILE, row.row, "its pair is judged more than once, with different labels")
        elif row.id in done:
            left.add(EXAMPLES_FILE, row.row, "its pair is judged in an earlier row, with the same label")
        else:
            done.add(row.id)
            yield row


def read_products(folder: Path, wanted: set[Key], left: LeftOut) -> dict[Key, Product]:
    """Those of the ``wanted`` products that the products file holds with a title.

    Raises DataError when the file is not of the layout.
    """
    path = folder / PRODUCTS_FILE
    keep = [key in wanted for key in zip(*_read(path, list(_KEYS)).values(), strict=True)]
    columns = _read(path, [*_KEYS, *_PRODUCT_COLUMNS], keep)
    numbers = (number for number, kept in enumerate(keep, 1) if kept)
    found: dict[Key, Product] = {}
    for number, cells in zip(numbers, zip(*columns.values(), strict=True), strict=True):
        row = dict(zip(columns, cells, strict=True))
        key = (row["product_id"], row["product_locale"])
        if reason := _product_fault(row):
            left.add(PRODUCTS_FILE, number, reason)
            continue
        product = _product(row)
        if (first := found.setdefault(key, product)) is not product:
            text = "the same" if first == product else "another"
            left.add(PRODUCTS_FILE, number, f"its product is described in an earlier row, with {text} text")
    return found


def _product_fault(row: dict[str, Text]) -> str:
    unreadable = (f"{name} is not UTF-8" for name in _PRODUCT_COLUMNS if isinstance(row[name], bytes))
    return next(unreadable, "") or ("" if _said(row["product_title"]) else "product_title says nothing")


def _product(row: dict[str, Any]) -> Product:
    said = {name.removeprefix("product_"): _said(row[name]) for name in _PRODUCT_COLUMNS}
    return Product(
        title=" ".join(said["title"].split()),
        brand=said["brand"],
        attributes={"color": said["color"]} if said["color"] else {},
        text="\n".join(part for part in (said["bullet_point"], said["description"]) if part),
    )


def _said(text: str | None) -> str:
    """The text without white space round it; "" for what the data set writes where nothing is known."""
    text = (text or "").strip()
    return "" if text.casefold() in ("none", "nan", "null") else text


def _read(path: Path, names: list[str], keep: list[bool] | None = None) -> dict[str, list[Text]]:
    """The columns of a file as text, in the order of ``names``; ``keep``: which rows. Raises DataError."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist",
            hint=f"the folder needs the official files {EXAMPLES_FILE} and {PRODUCTS_FILE}",
        )
    try:
        found = pq.read_schema(path).names
        if missing := [name for name in names if name not in found]:
            raise DataError(f"{path}: the columns {', '.join(missing)} are missing", hint="use the official layout")
        table = pq.read_table(path, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    table = table if keep is None else table.filter(pa.array(keep, pa.bool_()))
    return {name: _texts(path, name, table[name]) for name in names}


def _texts(path: Path, name: str, column: pa.ChunkedArray) -> list[Text]:
    """A column of any plain type as text: 7, 7.0 and "7" are one id, NaN is null."""
    kind = column.type
    try:
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        if pa.types.is_floating(column.type):
            column = _whole(pc.if_else(pc.is_nan(column), None, column))
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            return [_decoded(value) for value in column.to_pylist()]
        if not pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {name} holds {kind}, not text", hint="use the official layout") from error


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:  # fractions
        return column


def _decoded(value: bytes | None) -> Text:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value
