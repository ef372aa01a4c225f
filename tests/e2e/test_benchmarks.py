"""Benchmarks run as their help says, and their files hold what they measured. No speed is asserted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_sharing_prompts_is_measured(tmp_path):
    script, out = ROOT / "benchmarks" / "learner.py", tmp_path / "out.json"
    command = [sys.executable, script, "--quick", "--repeats", "1", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    short, long = json.loads(out.read_text())["results"]
    assert (short["prompt"], long["prompt"]) == (64, 384)
    for result in (short, long):
        assert result["ratio"] == pytest.approx(result["padded"]["seconds"] / result["shared"]["seconds"])
        assert result["shared"]["tokens"] < result["padded"]["tokens"]
        assert 0 < result["shared"]["flop_utilisation"] < 1


def test_broadcasts_are_measured(tmp_path):
    script, out = ROOT / "benchmarks" / "weights.py", tmp_path / "out.json"
    command = [sys.executable, script, "--sizes", "1M", "--actors", "2", "--rounds", "1", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(out.read_text())["sizes"]["1M"]
    assert [found["transport"] for found in row["broadcasts"]] == ["object_store", "collective"]
    for found in row["broadcasts"]:  # each engine has compared what it holds with what was sent
        assert found["actors"] == 2 and 0 < found["engine_check_s"] < found["seconds"]
    assert 0 < row["copy_s"] < row["tcp_s"]
