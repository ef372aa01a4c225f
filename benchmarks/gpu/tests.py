"""The tests that want a GPU (tests/gpu), and which device they ran on.

python benchmarks/gpu/tests.py [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)

import pytest
import torch


class Outcomes:
    """Of each test: "passed", "failed" or "skipped"."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.found[report.nodeid] = report.outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    outcomes = Outcomes()
    code = pytest.main([str(ROOT / "tests" / "gpu")], plugins=[outcomes])
    if args.device == "cuda" and "skipped" in outcomes.found.values():
        sys.exit("torch sees no GPU")
    if args.json and not code:
        device = torch.cuda.get_device_properties(0) if args.device == "cuda" else None
        about = {"device": device.name, "memory_gib": device.total_memory / 2**30} if device else {"device": "cpu"}
        args.json.write_text(json.dumps(about | {"torch": torch.__version__, "results": outcomes.found}, indent=1))
    sys.exit(int(code))


if __name__ == "__main__":
    main()
