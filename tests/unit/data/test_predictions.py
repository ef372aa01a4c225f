"""Prediction files: what is written is read back, and what is wrong is named by file, line and field."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.data.predictions import FIELDS, read_predictions, to_line, write_predictions
from agrl.errors import DataError
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import TIERS, Example, Judgement, Product
from tests.unit.relevance.strategies import BOOKS, judgements, make_example

WORDS = st.text(min_size=1).filter(str.strip)
LINE = to_line("wild", Prediction(make_example(3, segment="negation"), "Tier: 3\n", Judgement(3, {"category": "same"})))


@st.composite
def predictions(draw) -> Prediction:
    product = Product(draw(WORDS), brand=draw(st.text()), attributes=draw(st.dictionaries(WORDS, WORDS, max_size=2)))
    example = Example("", draw(WORDS), product, draw(st.sampled_from(TIERS)), segment=draw(WORDS))
    stated = draw(st.none() | judgements(BOOKS["relevance"]))
    return Prediction(example, draw(st.text()), stated, "" if stated else "missing_line")


def with_ids(rows):
    return [replace(row, example=replace(row.example, id=str(number))) for number, row in enumerate(rows)]


@given(st.lists(predictions(), min_size=1, max_size=5), st.lists(predictions(), max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, balanced, wild):
    path = tmp_path_factory.mktemp("files") / "new" / "answers.jsonl"
    written = {name: with_ids(rows) for name, rows in (("balanced", balanced), ("wild", wild)) if rows}
    found = read_predictions(write_predictions(path, written))
    assert list(found) == list(written)
    for name, rows in written.items():
        assert [to_line(name, row) for row in found[name]] == [to_line(name, row) for row in rows]


def test_a_file_from_elsewhere_needs_little(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('\n{"set": "wild", "id": "1", "query": "q", "title": "t", "gold_tier": 4, "tier": null}\n')
    (row,) = read_predictions(path)["wild"]
    assert (row.example.segment, row.judgement, row.text, row.failure) == ("plain", None, "", "")


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"set": None}, "set", "expected text"),
        ({"id": 7}, "id", "expected text, found 7"),
        ({"query": " "}, "query", "is empty"),
        ({"title": None}, "title", "expected text"),
        ({"segment": 1}, "segment", "expected text"),
        ({"gold_tier": 5}, "gold_tier", "expected a tier of 4, 3, 2, 1, found 5"),
        ({"gold_tier": None}, "gold_tier", "found None"),
        ({"tier": "4"}, "tier", "found '4'"),
        ({"failure": "cut_off"}, "failure", "but the answer has a tier"),
        ({"verdicts": {"category": 1}}, "verdicts", "must be text"),
        ({"verdicts": [["category", "same"]] * 2}, "verdicts", "'category' stands twice"),
        ({"query": "\ud800"}, "query", "half of a surrogate pair"),
        ({"text": "\udc80"}, "text", "half of a surrogate pair"),
        ({"verdicts": {"\ud800": "same"}}, "verdicts", "half of a surrogate pair"),
        ({"tier": 2.5}, "tier", "found 2.5"),
        ({"verdict": {}}, "verdict", "unknown field"),
        ({"product": 3}, "product", "expected an object"),
        ({"product": {"title": "another"}}, "title", "but the product's is 'another'"),
        ({"product": {"title": LINE["title"], "text": 1}}, "product.text", "expected text"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, field, word):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (LINE, LINE | {"id": "e2"} | change)))
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert f"{path}: line 2, field {field}: " in str(error.value) and word in str(error.value)
    assert "--predictions" in error.value.hint


def test_what_pandas_makes_of_a_file_is_read(tmp_path):
    path = tmp_path / "answers.jsonl"
    other = {"id": "e2", "tier": float("nan"), "verdicts": {"category": None}, "failure": float("nan")}
    path.write_text("\ufeff" + "".join(json.dumps(LINE | change) + "\n" for change in ({"tier": 3.0}, other)))
    first, second = read_predictions(path)["wild"]
    assert (first.judgement, second.judgement, second.failure) == (Judgement(3, {"category": "same"}), None, "")


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(json.dumps(LINE | {"query": "l\u00e4mp"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"id": "1", "id": "2"}', "line 1: the key 'id' stands twice"),
        ("", "holds no predictions"),
        ("{\n", "line 1: not a JSON object"),
        ("[]\n", "line 1: expected an object"),
        ((json.dumps(LINE) + "\n") * 2, "line 2, field id: 'e1' is in wild already"),
        (json.dumps({key: LINE[key] for key in FIELDS if key != "tier"}), "line 1, field tier: is missing"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, word):
    path = tmp_path / "answers.jsonl"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(path) in str(error.value) and word in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        read_predictions(tmp_path / "nowhere.jsonl")
