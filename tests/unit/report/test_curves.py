"""Plots: SVG in the page's own colours, PNG with the spread over seeds."""

import numpy as np
import pytest

from agrl.report.curves import INK, SERIES, Line, line_svg, moving_average, spread_png, stacked_svg


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


def test_the_spread_over_seeds_is_written(tmp_path):
    path = tmp_path / "plots" / "seeds.png"
    runs = {"AGRL": [Line("0", [0, 20, 40], [0.2, 0.5, 0.7]), Line("1", [0, 20, 40], [0.2, 0.6, 0.7])]}
    spread_png(path, runs, "macro-F1")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="AGRL"):
        spread_png(path, {"AGRL": [*runs["AGRL"], Line("2", [0, 10], [0, 1])]}, "macro-F1")
