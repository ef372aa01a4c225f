"""ESCI files with faults: what is sound is imported, what is not is listed, and no file is written that is refused."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.cli import main
from agrl.data.esci import import_esci
from agrl.data.esci_rows import EXAMPLES_FILE, PRODUCTS_FILE
from agrl.data.files import read_examples, validate_file
from agrl.errors import DataError
from agrl.relevance.rulebook import load_rulebook

QUERIES = 4  # the last one is of the test split
TEXT = pa.string()


def layout():
    """The columns of the two files: four queries with a product of each label."""
    judged = [(query, place, label) for query in range(QUERIES) for place, label in enumerate("ESCI")]
    examples = {
        "example_id": list(range(len(judged))),
        "query": [f"query number {query}" for query, _, _ in judged],
        "query_id": [query for query, _, _ in judged],
        "product_id": [f"{query}0{place}" for query, place, _ in judged],
        "product_locale": ["us"] * len(judged),
        "esci_label": [label for _, _, label in judged],
        "small_version": [1] * len(judged),
        "split": ["test" if query == QUERIES - 1 else "train" for query, _, _ in judged],
    }
    products = {"product_id": list(examples["product_id"]), "product_locale": list(examples["product_locale"])}
    for name in ("title", "description", "bullet_point", "brand", "color"):
        products[f"product_{name}"] = [f"{name} {number}" for number in range(len(judged))]
    return examples, products


def write(folder, examples, products):
    for name, columns in ((EXAMPLES_FILE, examples), (PRODUCTS_FILE, products)):
        pq.write_table(pa.table(columns), folder / name)
    return folder


def imported(folder, examples, products, **settings):
    """What an import gives, after a look whether its files are in order: (Imported, id -> example)."""
    found = import_esci(write(folder, examples, products), folder / "out", **settings)
    book, read = load_rulebook("esci"), {}
    for split, counts in found.splits.items():
        path = folder / f"out/{split}.parquet"
        assert validate_file(path, book) == []
        rows = read_examples(path)
        assert len(rows) == counts["rows"]
        read |= {example.id: example for example in rows}
    return found, read


def latin1(texts):
    """A column of strings whose bytes are not UTF-8."""
    return pa.Array.from_buffers(TEXT, len(texts), pa.array([text.encode("latin-1") for text in texts]).buffers())


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("query", None, "query is missing"),
        ("query", " \t", "query is blank"),
        ("query_id", None, "query_id is missing"),
        ("product_id", None, "product_id is missing"),
        ("product_id", "", "product_id is blank"),
        ("product_id", "gone", f"its product is not in {PRODUCTS_FILE}, or left out there"),
        ("product_locale", None, "product_locale is missing"),
        ("esci_label", "X", "esci_label is 'X', none of E, S, C, I"),
        ("esci_label", None, "esci_label is None, none of E, S, C, I"),
        ("split", None, "split is None, none of train, test"),
        ("split", "../seed", "split is '../seed', none of train, test"),
    ],
)
def test_a_row_without_what_an_example_needs_is_left_out_by_name(tmp_path, column, value, reason):
    examples, products = layout()
    examples[column][5] = value
    found, read = imported(tmp_path, examples, products)
    assert found.left_out.rows == {(EXAMPLES_FILE, reason): [6]}
    assert len(read) == 4 * QUERIES - 1 and "1-us-101" not in read
    assert found.left_out.lines() == [f"{EXAMPLES_FILE}: left out 1 row, {reason} (row 6)"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("product_title", None, "product_title says nothing"),
        ("product_title", "  ", "product_title says nothing"),
        ("product_title", "nan", "product_title says nothing"),
        ("product_id", None, None),
        ("product_locale", None, None),
    ],
)
def test_a_product_that_cannot_be_used_is_left_out_with_its_rows(tmp_path, column, value, reason):
    examples, products = layout()
    products[column][5] = value
    found, read = imported(tmp_path, examples, products)
    lost = {(EXAMPLES_FILE, f"its product is not in {PRODUCTS_FILE}, or left out there"): [6]}
    assert found.left_out.rows == lost | ({(PRODUCTS_FILE, reason): [6]} if reason else {})
    assert len(read) == 4 * QUERIES - 1


def test_a_pair_that_is_judged_twice_alike_comes_once(tmp_path):
    examples, products = layout()
    for column in examples.values():
        column.append(column[3])
    found, read = imported(tmp_path, examples, products)
    assert found.left_out.rows == {(EXAMPLES_FILE, "its pair is judged in an earlier row, with the same label"): [17]}
    assert read["0-us-003"].tier == 1


def test_a_pair_that_is_judged_twice_differently_is_left_out(tmp_path):
    examples, products = layout()
    for column in examples.values():
        column += [column[3], column[3]]
    examples["esci_label"][-1] = "E"
    found, read = imported(tmp_path, examples, products)
    reason = "its pair is judged more than once, with different labels"
    assert found.left_out.rows == {(EXAMPLES_FILE, reason): [4, 17, 18]}
    assert "0-us-003" not in read


@pytest.mark.parametrize(("title", "told"), [("title 3", "the same"), ("another", "another")])
def test_of_a_product_that_is_described_twice_the_first_is_taken(tmp_path, title, told):
    examples, products = layout()
    for column in products.values():
        column.append(column[3])
    products["product_title"][-1] = title
    found, read = imported(tmp_path, examples, products)
    reason = f"its product is described in an earlier row, with {told} text"
    assert found.left_out.rows == {(PRODUCTS_FILE, reason): [17]}
    assert read["0-us-003"].product.title == "title 3"


@pytest.mark.parametrize("column", ["product_brand", "product_color", "product_description", "product_bullet_point"])
@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.float64(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_that_is_all_null_leaves_nothing_out(tmp_path, column, kind):
    examples, products = layout()
    products[column] = pa.nulls(4 * QUERIES, kind)
    found, read = imported(tmp_path, examples, products)
    assert found.left_out.rows == {} and len(read) == 4 * QUERIES
    assert "None" not in repr(read["0-us-000"].product)


@pytest.mark.parametrize("of_example", [pa.string(), pa.large_string(), pa.binary(), pa.int64(), pa.float64()])
@pytest.mark.parametrize("of_product", [pa.string(), pa.int32(), pa.dictionary(pa.int32(), pa.string())])
def test_product_ids_of_any_type_meet(tmp_path, of_example, of_product):
    examples, products = layout()
    ids = pa.array([int(text) + 100 for text in products["product_id"]])
    texts = pa.array(list(map(str, ids.to_pylist())))
    examples["product_id"] = (ids if pa.types.is_floating(of_example) else texts).cast(of_example)
    products["product_id"] = texts.cast(of_product)
    found, read = imported(tmp_path, examples, products)
    assert found.left_out.rows == {} and len(read) == 4 * QUERIES
    assert read["2-us-303"].product.title == "title 11"


@pytest.mark.parametrize("kind", [pa.int32(), pa.float64(), pa.string(), None])
def test_query_ids_of_any_type_divide_alike(tmp_path, kind):
    examples, products = layout()
    examples["query_id"] = pa.array([11 * (query + 9) for query in examples["query_id"]])  # 99 before 110
    _, expected = imported(tmp_path, examples, products)
    ids = examples["query_id"]
    examples["query_id"] = ids.cast(kind) if kind else ids.dictionary_encode()
    _, read = imported(tmp_path, examples, products)
    assert read == expected


@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())])
def test_every_text_column_may_be_of_another_type(tmp_path, kind):
    plain = layout()
    _, expected = imported(tmp_path, *plain)
    other = [{n: pa.array(c).cast(kind) if isinstance(c[0], str) else c for n, c in file.items()} for file in plain]
    _, read = imported(tmp_path, *other)
    assert read == expected


@pytest.mark.parametrize("flags", [[1, 0], [True, False], ["1", "0"], [1.0, 0.0]])
def test_a_version_flag_of_any_type_is_understood(tmp_path, flags):
    examples, products = layout()
    examples["small_version"] = flags * 2 * QUERIES
    found, read = imported(tmp_path, examples, products, version="small")
    assert found.left_out.rows == {} and len(read) == 2 * QUERIES


def test_a_version_flag_that_says_nothing_is_named(tmp_path):
    examples, products = layout()
    examples["small_version"][2] = None
    found, _ = imported(tmp_path, examples, products, version="small")
    assert found.left_out.rows == {(EXAMPLES_FILE, "small_version is None, not 1 or 0"): [3]}
    assert imported(tmp_path, examples, products)[0].left_out.rows == {}


def test_text_that_is_not_utf8_is_left_out_by_name(tmp_path):
    examples, products = layout()
    examples["query"][5] = "t\u00e4lt"
    products["product_brand"][9] = "\u00f6lf"
    examples["query"], products["product_brand"] = latin1(examples["query"]), latin1(products["product_brand"])
    found, read = imported(tmp_path, examples, products)
    assert found.left_out.rows == {
        (EXAMPLES_FILE, "query is not UTF-8"): [6],
        (PRODUCTS_FILE, "product_brand is not UTF-8"): [10],
        (EXAMPLES_FILE, f"its product is not in {PRODUCTS_FILE}, or left out there"): [10],
    }
    assert len(read) == 4 * QUERIES - 2


def test_rows_of_another_marketplace_are_not_missed(tmp_path):
    examples, products = layout()
    examples["product_locale"][:4] = products["product_locale"][:4] = ["jp"] * 4
    examples["query"][0] = None
    assert imported(tmp_path, examples, products)[0].left_out.rows == {}
    left_out = imported(tmp_path, examples, products, locale="")[0].left_out
    assert left_out.rows == {(EXAMPLES_FILE, "query is missing"): [1]}


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("esci_label", "exact", "16 rows, esci_label is 'exact', none of E, S, C, I (row 1, 2, 3, 4, 5, ...)"),
        ("split", "dev", "split is 'dev'"),
        ("query", "", "query is blank"),
    ],
)
def test_a_file_with_nothing_sound_is_refused_with_the_reasons(tmp_path, column, value, word):
    examples, products = layout()
    examples[column] = [value] * 4 * QUERIES
    with pytest.raises(DataError, match=f"(?s){EXAMPLES_FILE}: no row can be imported.*{re.escape(word)}"):
        imported(tmp_path, examples, products)
    assert not (tmp_path / "out").exists()


def test_two_files_that_do_not_belong_together_are_refused(tmp_path):
    examples, products = layout()
    products["product_id"] = [f"{text}x" for text in products["product_id"]]
    with pytest.raises(DataError, match="left out 16 rows, its product is not in") as error:
        imported(tmp_path, examples, products)
    assert "the same release" in error.value.hint


@pytest.mark.parametrize("column", ["query", "product_id", "esci_label"])
def test_a_column_that_cannot_be_text_is_named(tmp_path, column):
    examples, products = layout()
    examples[column] = [[value] for value in examples[column]]
    with pytest.raises(DataError, match=f"column {column} holds list"):
        imported(tmp_path, examples, products)


def test_a_query_text_of_training_and_test_is_a_leak(tmp_path):
    examples, products = layout()
    examples["query"][:4] = ["Query  NUMBER 3"] * 4
    (leak,) = imported(tmp_path, examples, products, seed_share=0)[0].leaks
    assert (leak.trained, leak.held_out, leak.queries, leak.rows) == ("train", "test", ("query number 3",), 4)


def test_the_command_says_what_it_left_out_and_what_leaks(tmp_path, capsys):
    examples, products = layout()
    examples["query"][:4] = ["query number 3"] * 4
    examples["query"][6] = " "
    products["product_title"][7] = "[/red] :cup: title"
    write(tmp_path, examples, products)
    command = ["data", "import-esci", str(tmp_path), "--out", str(tmp_path / "out[1]")]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"{EXAMPLES_FILE}: left out 1 row, query is blank (row 7)" in out
    assert "possible leak: test and" in out and "out[1]" in out
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == [{"file": EXAMPLES_FILE, "reason": "query is blank", "rows": [7]}]
    assert [leak["held_out"] for leak in found["leaks"]] == ["test"]


cells = {
    "query": st.sampled_from(["red cup", "Red  cup", "tent", "", " ", None, "\u0000", "\u200b"]),
    "query_id": st.sampled_from(["1", "2", "2-us", "", None]),
    "product_id": st.sampled_from(["A", "B", "us-A", "", None]),
    "product_locale": st.sampled_from(["us", "us", "jp", "", None]),
    "esci_label": st.sampled_from(["E", "S", "C", "I", "e", None]),
    "split": st.sampled_from(["train", "train", "test", "dev", None]),
}
said = st.sampled_from(["text", "None", " ", None])
shelf = {
    "product_id": cells["product_id"],
    "product_locale": cells["product_locale"],
    "product_title": st.sampled_from(["cup", "mug", "", None]),
    **{f"product_{name}": said for name in ("description", "bullet_point", "brand", "color")},
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=12),
    st.lists(st.fixed_dictionaries(shelf), min_size=1, max_size=8),
    st.sampled_from(["us", ""]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_row_is_imported_or_listed_and_every_file_is_valid(tmp_path_factory, rows, products, locale, share):
    folder = tmp_path_factory.mktemp("esci")
    files = [{name: [row[name] for row in file] for name in file[0]} for file in (rows, products)]
    try:
        found, read = imported(folder, *files, locale=locale, seed_share=share)
    except DataError:
        return
    listed = [row for (file, _), numbers in found.left_out.rows.items() for row in numbers if file == EXAMPLES_FILE]
    asked = [n for n, row in enumerate(rows, 1) if not locale or row["product_locale"] != "jp"]
    assert len(listed) == len(set(listed)) and set(listed) <= set(asked)
    assert len(read) == len(asked) - len(listed)
