"""The controller's share is measured beside simulated engines, in processes of Ray. No speed is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def test_the_controllers_share_is_measured(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, SCRIPT, "--engines", "4", "--groups", "4", "--steps", "1", "--memory", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (size,) = json.loads(out.read_text())["sizes"]
    own = size["driver_cpu_s"] + size["replay_cpu_s"]
    assert 0 < size["driver_main_thread_s"] <= size["driver_cpu_s"] <= own
    assert size["share"] == pytest.approx(own / (own + size["simulated_s"]), abs=0.01)
    assert all(len(at_each_step) == 3 for at_each_step in size["memory"].values())
