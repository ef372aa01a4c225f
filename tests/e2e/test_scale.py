"""The benchmark of the controller runs at a toy size; no speed is asserted."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def test_the_controllers_share_and_memory_are_measured(tmp_path):
    file = tmp_path / "scale.json"
    words = ["--engines", "3", "--groups", "4", "--steps", "2", "--at-once", "--memory", "--json", str(file)]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (size,) = json.loads(file.read_text())["sizes"]
    assert (size["engines"], size["groups"]) == (3, 4) and 0 < size["processor_share"] < 1
    assert size["wall_s"] < size["simulated_s"] and size["exposed_share"] is None
    assert len(size["memory"]["driver_mib"]) == 4  # before each of three steps, and after the last
