"""Plots: SVG in the page's own colours, PNG with the spread over seeds."""

import numpy as np
import pytest

from agrl.report.charts import spread
from agrl.report.curves import (
    BANDS,
    INK,
    SERIES,
    Line,
    dots_png,
    dots_svg,
    line_svg,
    moving_average,
    spread_caption,
    spread_png,
    spread_svg,
    stacked_svg,
)


def test_svg_follows_the_page_colours():
    svg = line_svg([Line("a", range(20), np.linspace(0, 1, 20)), Line("b", [0, 9], [1, 0], colour=1, marks=True)])
    assert svg.startswith("<svg") and "var(--series-0)" in svg and "var(--series-1)" in svg and "var(--ink-soft)" in svg
    assert INK not in svg and not any(colour in svg for colour in SERIES)


def test_svg_has_no_fixed_size():
    head = line_svg([Line("a", [0, 1], [0, 1])]).split(">")[0]
    assert "viewBox" in head and " width=" not in head and " height=" not in head


def test_stacked_bars_use_the_colours_they_are_given():
    svg = stacked_svg([0, 1], [[1, 2], [3, 4]], [2, 7])
    assert "var(--series-2)" in svg and "var(--series-7)" in svg and "var(--series-0)" not in svg


def test_moving_average_is_of_the_last_values():
    assert moving_average([1, 2, 3, 4], 2) == pytest.approx([1, 1.5, 2.5, 3.5])
    assert moving_average([5.0], 3) == pytest.approx([5])


STEPS = [0, 20, 40]
RUNS = {
    "AGRL": [Line("0", STEPS, [0.2, 0.5, 0.7]), Line("1", STEPS, [0.2, 0.6, 0.7])],
    "GRPO": [Line("0", STEPS, [0.2, 0.3, 0.4])],
}


@pytest.mark.parametrize("band", BANDS)
def test_the_spread_over_runs_is_written(tmp_path, band):
    path = tmp_path / "plots" / "seeds.png"
    spread_png(path, {"macro-F1": RUNS, "accuracy": RUNS}, "balanced", band)
    assert path.read_bytes().startswith(b"\x89PNG")
    svg = spread_svg(RUNS, (0, 1), band)
    assert svg.startswith("<svg") and "var(--series-1)" in svg and not any(colour in svg for colour in SERIES)


def test_a_band_is_drawn_where_there_is_a_spread():
    assert "fill-opacity" in spread_svg(RUNS) and "fill-opacity" not in spread_svg({"GRPO": RUNS["GRPO"]})
    assert spread_svg(RUNS, band="sd") != spread_svg(RUNS, band="range")


def test_the_caption_says_what_the_band_is():
    assert "lowest run to the highest" in spread_caption("range") and "standard deviation" in spread_caption("sd")
    chart = spread("macro-F1", "balanced", RUNS, band="sd")
    assert chart.reading == spread_caption("sd")
    assert chart.legend == (("AGRL (2)", 0), ("GRPO (1)", 1))


def test_a_spread_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="AGRL"):
        spread_svg({"AGRL": [*RUNS["AGRL"], Line("2", [0, 10], [0, 1])]})
    with pytest.raises(ValueError, match="quartiles"):
        spread_svg(RUNS, band="quartiles")


def test_dots_show_every_run_by_group_and_the_mean_of_a_row(tmp_path):
    rows = {"a long name of a method, too long for a line": {"x": [0.1, 0.2], "y": [0.3]}, "b": {"y": [0.5]}}
    svg = dots_svg(rows)
    assert "var(--series-0)" in svg and "var(--series-1)" in svg and "var(--series-2)" not in svg
    assert "a long name" in svg and "a long name of a method, too" not in svg  # it is broken into lines
    dots_png(tmp_path / "plots" / "dots.png", rows, "macro-F1")
    assert (tmp_path / "plots" / "dots.png").read_bytes().startswith(b"\x89PNG")
