"""Benchmarks run as their help says, and their files hold what they measured. No speed is asserted here."""

import json
import os
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


def test_the_parts_for_a_gpu_leave_a_file_each_and_go_on_where_they_stopped(tmp_path):
    script, parts = ROOT / "benchmarks" / "gpu.sh", ["groups", "mfu"]
    command = [script, "--device", "cpu", "--toy", "--only", ",".join(parts), tmp_path]
    (tmp_path / "mfu.json").write_text('{"results": "of a run that was cut off"}')
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "mfu: there already" in done.stdout
    results = {part: json.loads((tmp_path / f"{part}.json").read_text())["results"] for part in parts}
    assert results["mfu"] == "of a run that was cut off"
    (group,) = results["groups"]
    assert group["shared"]["tokens"] < group["padded"]["tokens"]


def test_a_part_for_a_gpu_that_fails_is_named_and_done_again(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\necho no device\nexit 1\n")
    python.chmod(0o755)
    command = [ROOT / "benchmarks" / "gpu.sh", "--device", "cpu", "--toy", "--only", "mfu", tmp_path / "out"]
    env = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (1, "failed: mfu\n")
    assert "no device" in done.stdout
    assert not (tmp_path / "out" / "mfu.json").exists()
