"""The files of a grid's results: table, Markdown, page, pictures, and the table in the terminal."""

import json
import re

import pytest
from rich.console import Console

from agrl.report.grid_page import write_results
from agrl.report.grid_sheets import grid_table, markdown, sheets
from tests.unit.report.fake_grid import write_cell, write_grid
from tests.unit.report.html import Balance, fetches

COMMAND = "agrl reproduce --seeds 2 <out>"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = write_grid(tmp_path_factory.mktemp("grid"), starts=2, seeds=2, steps=12)
    write_cell(out, "<b>mine")
    write_results(out, COMMAND)
    return out


@pytest.fixture(scope="module")
def page(out):
    return (out / "results.html").read_text()


@pytest.fixture(scope="module")
def text(out):
    return (out / "results.md").read_text()


def test_the_table_is_what_is_returned(tmp_path):
    write_cell(tmp_path, "sft")
    write_cell(tmp_path, "agrl", seed=3)
    table = write_results(tmp_path, COMMAND)
    assert json.loads((tmp_path / "table.json").read_text()) == table
    assert table["cells"] == {"sft": 1, "agrl": 1} and table["seeds"] == [3] and table["command"] == COMMAND


def test_the_page_is_well_formed_and_fetches_nothing(page):
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and not fetches(page)
    assert {link.removeprefix("#") for link in parser.links} <= parser.ids


@pytest.mark.parametrize(
    "part",
    ["reproduce --seeds 2 &lt;out&gt;", "AGRL − GRPO + RRS", "Differences on wild", "Dead groups", "Learning curves",
     "Training rollouts", "upper bound", "balanced by tier and criterion", "Verdict: category", "A dot for each run",
     "prefers-color-scheme: dark", "&lt;b&gt;mine", "different scales",
     "one standard deviation"],
)  # fmt: skip
def test_the_page_shows(page, part):
    assert part in page


def test_names_cannot_inject_markup(page):
    assert "<b>mine" not in page


def test_pictures_are_written(out):
    for name in ("curves.png", "dots.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_markdown_has_every_sheet_with_rows_of_equal_width(text, out):
    for _, found in sheets(json.loads((out / "table.json").read_text())):
        for sheet in found:
            lines = markdown(sheet).splitlines()
            assert markdown(sheet) in text and f"### {sheet.title}" in text
            assert len({line.count(" | ") for line in lines}) == 1 and len(lines) == len(sheet.rows) + 2


def test_mean_deviation_and_interval_are_in_a_cell(text):
    assert re.search(r"\| AGRL \| 4 \| .*\*\*0\.\d{3}\*\* ± 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", text)


def test_the_best_of_a_column_is_bold_but_never_the_upper_bound(text):
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    main = text.split("### balanced\n")[1].split("###")[0]
    bold = [line.split(" | ")[0].removeprefix("| ") for line in main.splitlines() if "**" in line]
    assert "AGRL" in bold and not any("upper bound" in label for label in bold) and "**" not in rows["| AGRL − SFT"]


def test_lower_is_better_where_it_is(tmp_path):
    for method, wrong in (("grpo", 0.2), ("agrl", 0.1)):
        write_cell(tmp_path, method, sets={"test": {"right_tier_wrong_verdict": wrong}})
    write_results(tmp_path, "c")
    assert "**0.100**" in (tmp_path / "results.md").read_text()


def test_a_dash_stands_for_what_was_not_measured(text):
    rows = [line for line in text.splitlines() if line.startswith("| SFT on the tier alone | ")]
    assert sum("–" in row for row in rows) == 5  # twice on each set, and its cost
    assert "None" not in text and "nan" not in text


def test_methods_without_rl_have_results_without_curves(tmp_path):
    write_cell(tmp_path, "sft", sets={"test": {}})
    write_results(tmp_path, "c")
    page, text = (tmp_path / "results.html").read_text(), (tmp_path / "results.md").read_text()
    assert "Learning curves" not in page + text and "Comparisons" not in page + text
    assert not (tmp_path / "curves.png").exists() and (tmp_path / "dots.png").exists()


def test_runs_of_different_lengths_share_the_steps_they_have(tmp_path):
    for seed, steps in ((0, 3), (1, 5)):
        write_cell(tmp_path, "grpo", 0, seed, rows=[{"train/accuracy": 0.1 * step} for step in range(steps)])
    write_results(tmp_path, "c")
    assert (tmp_path / "curves.png").exists()


def test_unfinished_runs_are_named(tmp_path):
    write_cell(tmp_path, "agrl")
    (tmp_path / "runs" / "dpo" / "start-0" / "seed-0").mkdir(parents=True)
    write_results(tmp_path, "c")
    assert "dpo/start-0/seed-0" in (tmp_path / "results.md").read_text()


def test_the_terminal_shows_methods_and_comparisons(out):
    console = Console(record=True, width=120)
    grid_table(console, json.loads((out / "table.json").read_text()))
    shown = console.export_text()
    for part in (
        "AGRL",
        "SFT on the tier alone",
        "Rule adherence",
        "wild",
        "AGRL − GRPO + RRS",
        "after Holm",
        "<b>mine",
    ):
        assert part in shown
