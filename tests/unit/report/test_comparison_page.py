"""``agrl compare``'s page and tables: everything of a comparison is on them, and text of the data stays text."""

import pytest
from rich.console import Console

from agrl.relevance.comparison import Pair, compare
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Judgement, Product
from agrl.report.comparison_page import write_comparison
from agrl.report.comparison_table import comparison_tables, p_value, reading
from tests.unit.relevance.strategies import make_example
from tests.unit.report.html import Balance, fetches


def pair(gold, a, b, name, set_name="balanced", segment="plain", text="Tier"):
    example = make_example(gold, id=name, segment=segment, query=f"query {name}", product=Product(f"title [{name}]"))
    answers = [Prediction(example, f"{text}: {t}", t and Judgement(t, {}), "" if t else "missing_line") for t in (a, b)]
    return Pair(set_name, *answers)


def pairs():
    rows = [pair(4, 1, 4, f"good {i}", segment="free_shipping") for i in range(20)]
    rows += [pair(2, 2, None, "bad"), pair(3, 3, 3, "same")]
    return [*rows, pair(4, 4, 4, "x", "wild")]


@pytest.fixture
def found():
    return {"a": "runs/sft", "b": "runs/[agrl]", **compare(pairs())}


def shown(found) -> str:
    console = Console(record=True, width=120)
    for table in comparison_tables(found):
        console.print(table)
    return console.export_text()


def test_the_page_is_well_formed_and_fetches_nothing(found, tmp_path):
    page = write_comparison(tmp_path / "new" / "compare.html", found).read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and not fetches(page)
    assert {link.removeprefix("#") for link in parser.links} <= parser.ids


@pytest.mark.parametrize(
    "part",
    ["runs/[agrl] against runs/sft", "balanced", "wild", "free shipping", "0.952", "0.77 to 0.99", "&lt;0.001",
     "B is nearer to gold", "no difference beyond chance", "Where B gains most", "Where B loses most", "query bad",
     "title [good 3]", "missing line", "Tier: 4", "prefers-color-scheme: dark", "20 good, 0 same, 0 bad"],
)  # fmt: skip
def test_the_page_shows(found, tmp_path, part):
    assert part in write_comparison(tmp_path / "compare.html", found).read_text()


def test_text_of_the_data_cannot_inject_markup(tmp_path):
    rows = [pair(4, 1, 4, "<script>alert(1)</script>", text="<b>")]
    page = write_comparison(tmp_path / "compare.html", {"a": "<i>", "b": "b", **compare(rows)}).read_text()
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "&lt;script&gt;" in page


def test_two_judges_that_agree_have_a_page(tmp_path):
    page = write_comparison(tmp_path / "c.html", {"a": "a", "b": "b", **compare([pair(4, 4, 4, "x")])}).read_text()
    assert "no difference beyond chance" in page and "Where B gains most" not in page


def test_the_tables_show_sets_segments_and_examples(found):
    text = shown(found)
    for part in ("runs/[agrl]", "balanced: B is nearer to gold", "free_shipping", "0.77 to 0.99", "<0.001", "query bad",
                 "title [bad]", "missing line"):  # fmt: skip
        assert part in text
    rows = [line.split("│")[1:6] for line in text.splitlines() if line.startswith("│ all")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["all", "22", "20", "1", "1"],
        ["all", "1", "0", "1", "0"],
    ]


def test_who_is_nearer_is_said_only_beyond_chance():
    assert reading({"sign_p": 0.01, "good": 1, "bad": 9}) == "A is nearer to gold"
    assert reading({"sign_p": 0.2, "good": 9, "bad": 1}) == "no difference beyond chance"
    assert (p_value(0.0004), p_value(0.0314), p_value(1.0)) == ("<0.001", "0.031", "1.000")
