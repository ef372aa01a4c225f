"""Metrics and samples on disk: complete, strict JSON, cut on resume; divergence stops by name."""

import json
import math

import pytest

from agrl.errors import DataError, DivergenceError
from agrl.report.recorder import Recorder, read_jsonl
from tests.unit.report.fake_run import make_run


def rows(path):
    return list(read_jsonl(path))


def test_rows_carry_step_phase_and_metrics(tmp_path):
    with Recorder(tmp_path, "sft") as recorder:
        recorder.log(3, {"loss/total": 0.5, "lr": 1e-3})
    (row,) = rows(tmp_path / "metrics.jsonl")
    assert (row["step"], row["phase"], row["loss/total"], row["lr"]) == (3, "sft", 0.5, 1e-3)


def test_a_value_that_is_not_finite_is_null_in_strict_json(tmp_path):
    with Recorder(tmp_path) as recorder:
        recorder.log(0, {"guide/level_mean": math.nan, "train/accuracy": 0.5})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["guide/level_mean"] is None


@pytest.mark.parametrize("name", ["loss/total", "loss/kl", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_is_recorded_and_named(tmp_path, name, value):
    with Recorder(tmp_path) as recorder, pytest.raises(DivergenceError, match=f"{name} is .* at step 7") as raised:
        recorder.log(7, {name: value, "lr": 0.1})
    assert raised.value.hint
    assert rows(tmp_path / "metrics.jsonl")[0]["lr"] == 0.1


def test_resume_cuts_the_abandoned_steps_of_its_phase_alone(tmp_path):
    with Recorder(tmp_path, "sft") as recorder:
        recorder.log(5, {"loss/total": 1.0})
    with Recorder(tmp_path, "rl") as recorder:
        for step in range(4):
            recorder.log(step, {"loss/total": float(step)})
            recorder.samples(step, [{"query": f"q{step}"}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "pha')  # the writer was killed here
    with Recorder(tmp_path, "rl", first_step=2) as recorder:
        recorder.log(2, {"loss/total": 9.0})
    found = [(row["phase"], row["step"], row["loss/total"]) for row in rows(tmp_path / "metrics.jsonl")]
    assert found == [("sft", 5, 1.0), ("rl", 0, 0.0), ("rl", 1, 1.0), ("rl", 2, 9.0)]
    assert [row["query"] for row in rows(tmp_path / "samples.jsonl")] == ["q0", "q1"]


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\nnonsense\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        rows(path)


def test_a_sample_says_everything_about_a_trajectory(tmp_path):
    make_run(tmp_path / "run", steps=6, evaluations=False)
    sample = rows(tmp_path / "run" / "samples.jsonl")[0]
    assert {
        "example_id",
        "query",
        "title",
        "gold_tier",
        "text",
        "tier",
        "correct",
        "total",
        "components",
    } <= sample.keys()
    assert {"advantage", "provenance", "hint_level", "version", "failure", "segment", "step"} <= sample.keys()
    assert sample["components"]["tier"].keys() == {"value", "valid", "reason"}
