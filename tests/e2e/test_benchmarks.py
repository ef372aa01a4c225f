"""The learner's benchmark runs as its help says, and its file holds what it measured. No speed is asserted here."""

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
