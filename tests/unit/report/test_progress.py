"""Progress: live on a terminal, sober in a pipe, a row for each lane on a board; numbers in a few characters."""

from io import StringIO

import pytest
from rich.console import Console

from agrl.report.progress import board, duration, number, phase, progress


def plain_console():
    return Console(file=StringIO(), width=100)


def test_progress_in_a_pipe_is_a_line_each_tenth():
    console = plain_console()
    with progress(console, "RL", total=40) as bar:
        for step in range(40):
            bar.advance(1, f"accuracy {step}")
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("RL  4/40") and lines[0].endswith("accuracy 3")
    assert lines[-1].startswith("RL  40/40")


def test_progress_prints_when_time_passes_between_tenths():
    console = plain_console()
    with progress(console, "slow", total=1000, interval=0.0) as bar:
        bar.advance(1, "note")
    assert "slow  1/1000" in console.file.getvalue()


def test_progress_on_a_terminal_ends_full():
    console = Console(file=StringIO(), width=100, force_terminal=True)
    with progress(console, "RL", total=3) as bar:
        for _ in range(3):
            bar.advance(1, "loss [1]")
    assert "3/3" in console.file.getvalue() and "loss [1]" in console.file.getvalue()


def test_a_phase_says_how_it_ended():
    console = plain_console()
    with phase(console, "Starting [all]"):
        pass
    with pytest.raises(ValueError), phase(console, "Breaking"):
        raise ValueError
    good, bad = console.file.getvalue().splitlines()
    assert good.startswith("✓ Starting [all]") and bad.startswith("✗ Breaking")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (9.96, "10.0 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (12345, "12,345"),
        (0.41, "0.410"),
        (1e-5, "1.0e-05"),
        (0.0, "0"),
        (float("nan"), "–"),
        (123.45, "123.5"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def logs(folder):
    return [folder / str(lane) / "run.log" for lane in range(2)]


def test_a_board_shows_all_runs_and_what_each_lane_does(tmp_path):
    console = Console(file=StringIO(), width=140, force_terminal=True)
    with board(console, "Runs", total=5, done=2, logs=logs(tmp_path)) as (bar, lanes):
        lanes[0].begin("grpo [start 0]")
        lanes[1].begin("agrl, start 1")
        with progress(lanes[0], "RL", total=3) as steps:
            steps.advance(2, "accuracy 0.41")
        with phase(lanes[1], "Evaluating"):
            pass
        bar.advance(1)
    shown = console.file.getvalue()
    for text in ("Runs", "3/5", "grpo [start 0]  RL", "2/3", "accuracy 0.41", "agrl, start 1  Evaluating"):
        assert text in shown
    assert "✓ Evaluating" in (tmp_path / "1" / "run.log").read_text()


def test_a_board_in_a_pipe_leaves_the_saying_to_its_caller_and_the_rest_to_the_logs(tmp_path):
    console = plain_console()
    with board(console, "Runs", total=2, done=0, logs=logs(tmp_path)) as (bar, lanes):
        lanes[0].begin("grpo")
        with progress(lanes[0], "RL", total=1) as steps:
            steps.advance(1, "accuracy 0.41")
        with pytest.raises(ValueError), phase(lanes[0], "Evaluating"):
            raise ValueError
        lanes[0].begin("")
        bar.advance(1)
    log = (tmp_path / "0" / "run.log").read_text()
    assert console.file.getvalue() == "" and "grpo" in log and "RL  1/1" in log and "✗ Evaluating" in log
