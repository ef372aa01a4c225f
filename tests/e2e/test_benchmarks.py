"""The learner's benchmark runs as its help says, and its file holds what it measured. No speed is asserted here."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_sharing_prompts_is_measured_and_gains(tmp_path):
    command = [
        sys.executable,
        ROOT / "benchmarks" / "learner.py",
        "--quick",
        "--repeats",
        "3",
        "--json",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    short, long = json.loads(out.read_text())["results"]
    assert (short["prompt"], long["prompt"]) == (64, 384)
    for result in (short, long):
        assert result["ratio"] == result["padded"]["seconds"] / result["shared"]["seconds"]
        assert result["shared"]["tokens"] < result["padded"]["tokens"]
        assert 0 < result["shared"]["flop_utilisation"] < 1
