"""Text from data, paths and settings is shown as it is: on every console, in every table, plot and page."""

import json
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agrl.errors import DataError
from agrl.relevance.comparison import align, compare
from agrl.relevance.metrics import Prediction
from agrl.relevance.records import Judgement, Product
from agrl.report.comparison_table import comparison_tables
from agrl.report.curves import dots_svg
from agrl.report.evaluation_table import evaluation_tables
from agrl.report.plain import PlainConsole, PlainTable, visible
from agrl.report.progress import board, phase, progress, tick
from agrl.report.summary import summary_table
from agrl.report.terminal import console, error_block, error_console
from tests.unit.relevance.strategies import make_example

ODD = ["[/b]", "[red]x[/red]", "[bold", "a [v2]", ":smile:", "[link=http://x]y[/link]", "{x} {0}", "$5 a_b$", "\\[x]"]
odd = pytest.mark.parametrize("name", ODD)


def consoles():
    """Ours in a pipe and on a terminal, and one of rich that reads markup."""
    yield PlainConsole(StringIO(), width=300)
    yield PlainConsole(StringIO(), width=300, force_terminal=True, color_system=None)
    yield Console(file=StringIO(), width=300)


def shown(on) -> str:
    return on.file.getvalue()


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
@settings(deadline=None)
def test_a_plain_console_prints_what_it_is_given(text):
    on = PlainConsole(StringIO(), width=1000)
    on.print(text, soft_wrap=True)
    assert shown(on) == text + "\n"


def test_the_consoles_of_the_command_are_plain():
    assert isinstance(console(), PlainConsole) and isinstance(error_console(), PlainConsole)


def test_codes_that_command_a_terminal_are_written_out():
    assert visible("a\x1b[2Jb\tc\nd\x9b\r") == "a\\x1b[2Jb\tc\nd\\x9b\\x0d"
    for on in consoles():
        table = PlainTable("\x1b[1m")
        table.add_column("\x1b[2m")
        table.add_row("\x1b[3m")
        on.print(table)
        assert all(f"\\x1b[{i}m" in shown(on) for i in (1, 2, 3))
    on = PlainConsole(StringIO(), width=100)
    on.print("\x1b[2J")
    error_block(on, DataError("\x1b[3J", "\x1b[4J"))
    assert "\x1b" not in shown(on)


@odd
def test_progress_phases_and_errors_show_any_name(name, tmp_path):
    for on in consoles():
        with progress(on, name, total=1) as bar:
            bar.advance(1, name)
        with phase(on, name):
            pass
        with pytest.raises(ValueError), phase(on, name):
            raise ValueError
        error_block(on, DataError(name, name), tmp_path / name)
        on.print(tick(name, "1 s", name))
        assert shown(on).count(name) >= 7


@odd
def test_lanes_show_any_name(name, tmp_path):
    on = PlainConsole(StringIO(), width=300, force_terminal=True, color_system=None)
    log = tmp_path / "run.log"
    with board(on, name, total=2, done=0, logs=[log]) as (bar, lanes):
        lanes[0].begin(name)
        lanes[0].print(f"Run {name}")
        with progress(lanes[0], name, total=1) as steps:
            steps.advance(1, name)
        with phase(lanes[0], name):
            pass
        bar.advance(1)
    assert name in shown(on) and log.read_text().count(name) >= 3


def answers(name, tier):
    example = make_example(4, id=name, query=name, product=Product(name), segment=name)
    other = make_example(4, id="other", segment="plain")
    judged = tier and Judgement(tier, {})
    return {name: [Prediction(e, name, judged, "" if tier else name) for e in (example, other)]}


@odd
def test_a_comparison_shows_any_name(name):
    found = {"a": name, "b": name, **compare(align(answers(name, None), answers(name, 4)))}
    for on in consoles():
        for table in comparison_tables(found):
            on.print(table)
        assert shown(on).count(name.replace("_", " ") if "_" in name else name) >= 2
        assert shown(on).count(name) >= 6


@odd
def test_an_evaluation_shows_any_name(name):
    numbers = {"accuracy": 1.0, "macro_f1": 1.0, "rule_adherence": 1.0, "parse_rate": 1.0}
    metrics = numbers | {"n": 3, "tier_f1": {name: 1.0}, "verdict_accuracy": {name: 1.0}}
    metrics["segments"] = {name: numbers | {"n": 1}, "plain": numbers | {"n": 2}}
    for on in consoles():
        for table in evaluation_tables({name: metrics}, {name: {name: metrics}}):
            on.print(table)
        assert shown(on).count(name) >= 7


@odd
def test_a_summary_shows_any_name(name, tmp_path):
    (tmp_path / "evaluation").mkdir()
    metrics = {"n": 3, "accuracy": 0.5, "macro_f1": 0.5, "set": name, "verdict_accuracy": {name: 0.5}, "segments": {}}
    for label in ("before", "after"):
        (tmp_path / "evaluation" / f"{label}-x.json").write_text(json.dumps(metrics | {"label": label}))
    for on in consoles():
        summary_table(on, tmp_path)
        assert f"Verdict: {name}" in shown(on) and "+0.000" in shown(on)


def test_a_name_with_dollars_is_no_formula():
    svg = dots_svg({"$\\frac{$": {"$5 kettle_$x$": [1.0, 2.0]}, "a$b": {"g": [1.0]}})
    assert "$\\frac{$" in svg
