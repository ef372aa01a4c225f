"""Runs by the number of labels that they knew: means, intervals and paired differences, method by method."""

import pytest

from agrl.report.grid import Cell
from agrl.report.labels import by_labels


def cell(method, start, seed, value):
    return Cell(method, start, seed, {"wild": {"macro_f1": value}})


CELLS = [
    *(cell("ground@1000", start, seed, 0.7 + 0.01 * seed + 0.02 * start) for start in (0, 1) for seed in (0, 1)),
    *(cell("sft_verdicts@1000", start, seed, 0.6 + 0.01 * seed) for start in (0, 1) for seed in (0, 1)),
    cell("ground@250", 0, 0, 0.5),
    cell("tfidf_logistic@250", 0, 0, 0.4),
    cell("ground", 0, 0, 0.9),
]


def test_means_are_by_method_and_number_of_labels():
    methods = by_labels(CELLS)["methods"]
    assert set(methods) == {"ground", "sft_verdicts", "tfidf_logistic"}
    found = methods["ground"]["1000"]["wild"]["macro_f1"]
    assert found["mean"] == pytest.approx(0.715) and found["n"] == 4
    assert found["low"] < found["mean"] < found["high"]
    assert methods["ground"]["250"]["wild"]["macro_f1"] == {"mean": 0.5, "low": None, "high": None, "n": 1}


def test_differences_are_those_of_the_same_start_and_seed():
    differences = by_labels(CELLS)["differences"]
    assert set(differences) == {"ground-sft_verdicts"} and set(differences["ground-sft_verdicts"]) == {"1000"}
    found = differences["ground-sft_verdicts"]["1000"]["wild"]
    assert found["mean"] == pytest.approx(0.11) and found["n"] == 4
    assert found["low"] == pytest.approx(0.10) and found["high"] == pytest.approx(0.12), "seeds cancel out"


def test_without_numbers_of_labels_there_is_nothing_to_tell():
    assert by_labels([cell("ground", 0, 0, 0.9)]) == {}
