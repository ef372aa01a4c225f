"""Files as other programs write them: what is sound is read, what is not is named by row."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.data.files import check_file, read_examples, validate_file, write_examples
from agrl.data.schema import SCHEMA, to_row
from agrl.errors import DataError
from agrl.relevance.records import Example, Judgement, Product

EXAMPLES = [
    Example("0", "red lámp", Product("lamp ö", brand="acme", attributes={"color": "red"}), 4, {"category": "same"}),
    Example(
        "1",
        "tent",
        Product("tent", attributes={"size": "L"}),
        3,
        {"category": "same", "attributes": "partial"},
        Judgement(2, {"attributes": "met"}, {"query": "tent"}),
        hint_level=1,
    ),
    Example("2", "cup", Product("cup"), 1),
]
ROWS = [to_row(example) for example in EXAMPLES]


def lines(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def body(rows=ROWS):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(
    "text",
    ["\ufeff" + body(), "\ufeff\n" + body(), body(ROWS[:1]) + "\ufeff" + body(ROWS[1:]), body().replace("\n", "\r\n")],
    ids=["bom", "bom alone on its line", "files put one after the other", "crlf"],
)
def test_byte_order_marks_and_line_ends_are_passed_over(tmp_path, text):
    assert read_examples(lines(tmp_path / "a.jsonl", text)) == EXAMPLES


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_a_row_that_is_not_utf8_is_named(tmp_path, encoding):
    path = lines(tmp_path / "a.jsonl", body(ROWS[2:] + ROWS[:1]), encoding)
    first = validate_file(path)[0]
    assert (first.row, "not UTF-8" in first.message) == (1 if encoding == "utf-16" else 2, True)
    with pytest.raises(DataError, match=f"row {first.row}: not UTF-8"):
        read_examples(path)


@given(st.binary(max_size=60))
def test_any_bytes_give_problems_and_no_other_error(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "a.jsonl"
    path.write_bytes(body(ROWS[:1]).encode() + b'{"id": "' + noise)
    assert validate_file(path)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"id": "1", "tier": 4, "tier": 4}', "tier"),
        ('{"id": "1", "product": {"title": "a", "title": "b"}}', "title"),
        ('{"id": "1", "product": {"title": "a", "attributes": {"color": "a", "color": "b"}}}', "color"),
        ('{"id": "1", "reference": {"readings": [{"key": "a", "key": "b"}]}}', "key"),
    ],
)
def test_a_key_that_stands_twice_is_named_at_every_depth(tmp_path, row, key):
    (problem,) = validate_file(lines(tmp_path / "a.jsonl", row))
    assert (problem.row, problem.message) == (1, f"the key {key!r} stands twice in one object")


@pytest.mark.parametrize("row", ["[" * 100_000, "1" * 5000, '{"id": "1"} x', "{'id': 1}"])
def test_what_json_cannot_hold_is_a_problem(tmp_path, row):
    (problem,) = validate_file(lines(tmp_path / "a.jsonl", row))
    assert "not a JSON object" in problem.message


def test_a_folder_in_the_place_of_a_file_is_a_data_error(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(tmp_path / "a.jsonl")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_what_pandas_writes_is_read(tmp_path, suffix):
    """A map becomes a struct of every name, null where a row lacks it; numbers beside a null become floats."""
    path = tmp_path / f"a{suffix}"
    frame = pd.DataFrame(ROWS)
    frame["hint_level"] = [None, 1, None]
    frame["segment"] = pd.Categorical(frame["segment"])
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
    assert read_examples(path) == EXAMPLES
    again = tmp_path / f"again{suffix}"  # of our own file: maps come back as lists of pairs
    frame = pd.read_parquet(write_examples(tmp_path / "own.parquet", EXAMPLES))
    frame.to_parquet(again) if suffix == ".parquet" else frame.to_json(again, orient="records", lines=True)
    assert read_examples(again) == EXAMPLES


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_what_hugging_face_datasets_write_is_read(tmp_path, suffix):
    import datasets

    made = datasets.Dataset.from_list(ROWS)
    path = tmp_path / f"a{suffix}"
    made.to_parquet(path) if suffix == ".parquet" else made.to_json(path)
    assert read_examples(path) == EXAMPLES


def test_nan_in_json_is_null(tmp_path):
    nan = float("nan")
    row = ROWS[0] | {"reference": nan, "segment": nan, "hint_level": nan}
    row["product"] = ROWS[0]["product"] | {"category": nan, "attributes": {"color": "red", "size": nan}}
    assert read_examples(lines(tmp_path / "a.jsonl", body([row]))) == EXAMPLES[:1]


def test_a_struct_of_nulls_is_an_absent_reference(tmp_path):
    row = ROWS[0] | {"reference": {"tier": None, "verdicts": {"category": None}, "readings": None}}
    assert read_examples(lines(tmp_path / "a.jsonl", body([row]))) == EXAMPLES[:1]


def parquet(path, **columns):
    """The rows as a Parquet file with other columns."""
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
    for name, column in columns.items():
        where = table.schema.get_field_index(name)
        table = table.append_column(name, column) if where < 0 else table.set_column(where, name, column)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", [pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.float32(), pa.float64()])
def test_numbers_of_any_width_are_read(tmp_path, kind):
    path = parquet(tmp_path / "a.parquet", tier=pa.array([4, 3, 1], kind), hint_level=pa.array([0, 1, None], kind))
    assert read_examples(path) == EXAMPLES


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_text_of_any_arrow_type_is_read(tmp_path, kind):
    path = parquet(tmp_path / "a.parquet", id=pa.array(["0", "1", "2"]).cast(kind))
    assert read_examples(path) == EXAMPLES


def test_maps_as_lists_of_key_and_value_are_read(tmp_path):
    """Programs without a map type read a map, and write it, as a list of structs."""
    verdicts = [[{"key": k, "value": v} for k, v in e.verdicts.items()] for e in EXAMPLES]
    path = parquet(tmp_path / "a.parquet", verdicts=pa.array([verdicts[0], verdicts[1], None]))
    assert read_examples(path) == EXAMPLES


def test_a_name_that_stands_twice_in_a_parquet_map_is_named(tmp_path):
    pairs = pa.array([[("a", "1"), ("a", "1")], [], None], pa.map_(pa.string(), pa.string()))
    (problem,) = validate_file(parquet(tmp_path / "a.parquet", verdicts=pairs))
    assert (problem.row, problem.field, problem.message) == (1, "verdicts", "the name 'a' stands twice")


def latin1(texts):
    """A column of strings whose bytes are not UTF-8, as some writers let pass."""
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array([t.encode("latin-1") for t in texts]).buffers())


def test_bytes_that_are_not_utf8_in_parquet_are_named_by_row_and_field(tmp_path):
    titles = pa.StructArray.from_arrays([latin1(["lamp", "tent", "tässe"])], ["title"])
    path = parquet(tmp_path / "a.parquet", query=latin1(["lamp", "tält", "cup"]), product=titles)
    assert [(p.row, p.field) for p in validate_file(path)] == [(2, "query"), (3, "product.title")]
    with pytest.raises(DataError, match="row 2, field query: cannot be read"):
        read_examples(path)


@pytest.mark.parametrize("inside", [False, True])
def test_a_column_that_stands_twice_is_named(tmp_path, inside):
    texts = pa.array(["a"])
    pair = [texts, texts], ["title", "title"]
    table = pa.table({"product": pa.StructArray.from_arrays(*pair)}) if inside else pa.table(*pair)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"the column {'product.' * inside}title stands twice"):
        validate_file(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0", "index", "level_0"])
def test_an_index_column_is_passed_over_with_a_line(tmp_path, capsys, suffix, name):
    path = tmp_path / f"a{suffix}"
    frame = pd.DataFrame(ROWS).assign(**{name: [7, 8, 9]})
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
    assert check_file(path).notes == [f"column {name} is the index of a table: passed over"]
    assert validate_file(path) == []
    assert read_examples(path) == EXAMPLES
    assert f"a{suffix}: column {name} is the index" in capsys.readouterr().err


def test_the_index_of_a_filtered_frame_and_one_with_a_name_are_passed_over(tmp_path):
    frame = pd.DataFrame(ROWS)
    frame[frame.tier > 1].to_parquet(tmp_path / "filtered.parquet")
    frame.assign(sku=[7, 8, 9]).set_index("sku").to_parquet(tmp_path / "named.parquet")
    frame.set_index("id").to_parquet(tmp_path / "id.parquet")
    assert read_examples(tmp_path / "filtered.parquet") == EXAMPLES[:2]
    assert read_examples(tmp_path / "named.parquet") == EXAMPLES
    assert read_examples(tmp_path / "id.parquet") == EXAMPLES
    assert check_file(tmp_path / "id.parquet").notes == []


@pytest.mark.parametrize("note", [b"not json", b"[]", b'{"index_columns": [{"kind": "range"}]}'])
def test_the_note_of_pandas_may_be_anything(tmp_path, note):
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA).replace_schema_metadata({b"pandas": note})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet") == EXAMPLES
