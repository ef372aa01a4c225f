"""Examples files: what is written is read back, and what is wrong is named by file, row and field."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrl.data.files import read_examples, validate_file, write_examples
from agrl.data.schema import SCHEMA, from_row, row_problems, to_row
from agrl.errors import DataError
from agrl.relevance.records import Example, Judgement, Product
from agrl.relevance.rulebook import load_rulebook

FULL = Example(
    id="a-1",
    query="coffee grinder not electric",
    product=Product("brevo grinder", "kitchen > coffee", "brevo", {"power": "electric", "weight": "2 kg"}, "Grinds."),
    tier=2,
    verdicts={"category": "same", "attributes": "unmet"},
    reference=Judgement(4, {"category": "same", "attributes": "met"}, {"query": "grinder", "product": "grinder"}),
    segment="negation",
    hint_level=0,
)
BARE = Example(id="a-2", query="tent", product=Product("tent"), tier=4)


def row(**changes):
    return {**to_row(FULL), **changes}


def problems(row):
    return dict(row_problems(row))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_examples_come_back_as_they_were_written(tmp_path, suffix):
    path = write_examples(tmp_path / f"new/folder{suffix}", [FULL, BARE])
    assert read_examples(path) == [FULL, BARE]
    assert validate_file(path, load_rulebook("relevance")) == []


def test_parquet_files_have_the_documented_schema(tmp_path):
    assert pq.read_schema(write_examples(tmp_path / "a.parquet", [FULL])).equals(SCHEMA)


words = st.text(max_size=20)
names = st.dictionaries(words, words, max_size=3)
said = words.filter(str.strip)
judgements = st.builds(Judgement, tier=st.sampled_from((4, 3, 2, 1)), verdicts=names, readings=names)
examples = st.builds(
    Example,
    id=said,
    query=said,
    product=st.builds(Product, title=said, category=words, brand=words, attributes=names, text=words),
    tier=st.sampled_from((4, 3, 2, 1)),
    verdicts=names,
    reference=st.none() | judgements,
    segment=said,
    hint_level=st.integers(0, 9),
)


@settings(max_examples=50, deadline=None)
@given(examples)
def test_any_example_survives_a_row_of_json_and_of_arrow(example):
    line = json.loads(json.dumps(to_row(example)))
    (arrow,) = pa.Table.from_pylist([to_row(example)], schema=SCHEMA).to_pylist()
    assert from_row(line) == example == from_row(arrow)
    assert not problems(line)
    assert not problems(arrow)


def test_a_row_needs_only_id_query_title_and_tier():
    bare = {"id": "x", "query": "tent", "product": {"title": "tent"}, "tier": 4}
    assert not problems(bare)
    assert from_row(bare) == Example(id="x", query="tent", product=Product("tent"), tier=4)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "id"),
        ({"query": "  "}, "query"),
        ({"query": None}, "query"),
        ({"tier": 5}, "tier"),
        ({"tier": 0}, "tier"),
        ({"tier": "4"}, "tier"),
        ({"tier": True}, "tier"),
        ({"tier": 3.5}, "tier"),
        ({"tier": float("nan")}, "tier"),
        ({"tier": float("inf")}, "tier"),
        ({"product": None}, "product"),
        ({"product": {"title": ""}}, "product.title"),
        ({"product": {"title": "t", "colour": "red"}}, "product.colour"),
        ({"product": {"title": "t", "attributes": {"weight": 2}}}, "product.attributes"),
        ({"product": {"title": "t", "attributes": "red"}}, "product.attributes"),
        ({"product": {"title": "t", "attributes": ["ab"]}}, "product.attributes"),
        ({"product": {"title": "t", "attributes": [{"key": "a", "worth": "b"}]}}, "product.attributes"),
        ({"product": {"title": "t", "attributes": [("a", "1"), ("a", "1")]}}, "product.attributes"),
        ({"verdicts": [{"key": "a", "value": "1"}, {"key": "a", "value": None}]}, "verdicts"),
        ({"verdicts": {"category": 1.5}}, "verdicts"),
        ({"reference": "good"}, "reference"),
        ({"reference": {"verdicts": {}}}, "reference.tier"),
        ({"reference": {**to_row(FULL)["reference"], "verdict": {}}}, "reference.verdict"),
        ({"hint_level": -1}, "hint_level"),
        ({"hint_level": 0.5}, "hint_level"),
        ({"hint_level": 128}, "hint_level"),
        ({"\ud800": 1}, r"'\ud800'"),
        ({"segment": 3}, "segment"),
        ({"verdict": {}}, "verdict"),
    ],
)
def test_what_is_wrong_with_a_row_is_named_by_field(changes, field):
    assert list(problems(row(**changes))) == [field]


@pytest.mark.parametrize("field", ["id", "query", "segment"])
@pytest.mark.parametrize("half", ["\ud800", "\udfff", "\udc80"])
def test_text_that_cannot_be_encoded_is_named_by_field(field, half):
    assert list(problems(row(**{field: f"red {half} lamp"}))) == [field]


@pytest.mark.parametrize("field", ["title", "category", "brand", "text"])
def test_text_of_a_product_that_cannot_be_encoded_is_named(field):
    assert list(problems(row(product={"title": "t", field: "\ud83d"}))) == [f"product.{field}"]


@pytest.mark.parametrize(
    "names", [{"\ud800": "x"}, {"x": "\ud800"}, [("x", "\ud800")], [{"key": "\ud800", "value": "x"}]]
)
def test_names_and_values_that_cannot_be_encoded_are_named(names):
    assert list(problems(row(verdicts=names))) == ["verdicts"]
    assert list(problems(row(product={"title": "t", "attributes": names}))) == ["product.attributes"]
    for part in ("verdicts", "readings"):
        assert list(problems(row(reference={"tier": 4, part: names}))) == [f"reference.{part}"]


any_text = st.text(st.characters(), max_size=3)  # surrogates too


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("above", ["", "product", "reference"])
@given(st.data())
def test_whatever_stands_in_a_field_is_named_or_can_be_written(above, data):
    whole = row()
    part = whole[above] if above else whole
    field = data.draw(st.sampled_from([*part, "other"]))
    part[field] = data.draw(any_json)
    if found := problems(whole):
        assert all(name.startswith(above) for name in found)
    else:
        example = from_row(whole)
        json.dumps(to_row(example), ensure_ascii=False).encode()
        assert pa.Table.from_pylist([to_row(example)], schema=SCHEMA).num_rows == 1


def test_a_surrogate_pair_of_json_is_one_character(tmp_path):
    path = tmp_path / "pair.jsonl"
    path.write_text(json.dumps(row(query="\N{ROLLING ON THE FLOOR LAUGHING} lamp")))
    assert "\\ud83e" in path.read_text()
    assert read_examples(path)[0].query == "\N{ROLLING ON THE FLOOR LAUGHING} lamp"


@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_a_row_that_is_no_object_is_named(value):
    assert list(problems(value)) == [""]


def test_reading_a_bad_file_names_file_row_and_field(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in (row(), row(id="b", tier=7))) + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl: row 2, field tier: .*found 7"):
        read_examples(path)


def test_duplicate_ids_are_refused_and_both_rows_named(tmp_path):
    path = write_examples(tmp_path / "twice.parquet", [FULL, BARE, FULL])
    (problem,) = validate_file(path)
    assert (problem.row, problem.field) == (3, "id")
    assert "row 1" in problem.message
    with pytest.raises(DataError, match="row 3, field id"):
        read_examples(path)


def test_lines_that_are_not_json_are_problems_and_blank_lines_are_not(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(row()) + "\n\n{oops\n")
    (problem,) = validate_file(path)
    assert problem.row == 3
    assert "not a JSON object" in problem.message


def test_an_empty_file_cannot_be_read(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="the file has no examples"):
        read_examples(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(("changes", "field"), [({"query": " "}, "query"), ({"segment": "\ud800"}, "segment")])
def test_what_could_not_be_read_back_is_not_written(tmp_path, suffix, changes, field):
    path = tmp_path / f"new{suffix}"
    with pytest.raises(DataError, match=f"example 'a-1', field {field}"):
        write_examples(path, [BARE, replace(FULL, **changes)])
    assert not path.exists()


def test_missing_and_unknown_columns_are_named_once(tmp_path):
    pq.write_table(pa.table({"id": ["1", "2"], "query": ["a", "b"], "teir": [4, 4]}), tmp_path / "c.parquet")
    assert [(p.row, p.field) for p in validate_file(tmp_path / "c.parquet")] == [
        (0, "product"),
        (0, "tier"),
        (0, "teir"),
    ]


def test_files_that_cannot_be_read_are_data_errors(tmp_path):
    (tmp_path / "text.parquet").write_text("not parquet")
    for name, message in (
        ("text.parquet", "not a readable"),
        ("none.jsonl", "does not exist"),
        ("a.csv", "unknown kind"),
    ):
        with pytest.raises(DataError, match=message):
            read_examples(tmp_path / name)


def test_an_empty_file_is_a_problem(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    assert [p.message for p in validate_file(tmp_path / "empty.jsonl")] == ["the file has no examples"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"verdicts": {"category": "same", "attributes": "great"}}, "verdicts.attributes"),
        ({"verdicts": {"colour": "same"}}, "verdicts"),
        ({"tier": 4}, "tier"),  # the table decides 2 from the verdicts
        ({"hint_level": 9}, "hint_level"),
        ({"reference": {"tier": 4, "verdicts": {"category": "same"}}}, "reference.verdicts"),
        (
            {"reference": {"tier": 4, "verdicts": {"category": "same", "attributes": "met"}, "readings": {"x": "y"}}},
            "reference.readings",
        ),
    ],
)
def test_a_rule_book_finds_names_and_decisions_that_contradict_it(tmp_path, changes, field):
    path = tmp_path / "rules.jsonl"
    path.write_text(json.dumps(row(**changes)) + "\n")
    assert validate_file(path) == []
    assert [p.field for p in validate_file(path, load_rulebook("relevance"))] == [field]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_pairs_that_nobody_has_judged_are_read_where_they_are_asked_for(tmp_path, suffix):
    pairs = [replace(BARE, tier=None), replace(FULL, tier=None)]
    path = write_examples(tmp_path / f"pairs{suffix}", pairs)
    assert read_examples(path, labelled=False) == pairs and not validate_file(path, labelled=False)
    with pytest.raises(DataError, match="row 1, field tier: expected a tier of 4, 3, 2, 1, found None"):
        read_examples(path)


def test_a_file_without_a_column_of_tiers_holds_pairs_that_nobody_has_judged(tmp_path):
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"id": ["a"], "query": ["tent"], "product": [{"title": "tent"}]}), path)
    assert [e.tier for e in read_examples(path, labelled=False)] == [None]
    with pytest.raises(DataError, match="field tier: the column is missing"):
        read_examples(path)


def test_a_tier_that_is_none_is_wrong_with_and_without_labels(tmp_path):
    assert dict(row_problems(row(tier=5), labelled=False)).keys() == {"tier"}
