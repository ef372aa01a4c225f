"""Benchmarks run on a CPU at a toy size, those for a GPU by the script that runs them there; no speed is asserted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agrl.config.keys import conf_folder
from agrl.models.architecture import read_architecture

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
PARTS = ("tests", "packing", "groups", "learner", "mfu", "sleep", "steps", "rollout", "weights")
BY_HAND = ("vs_trl",)  # TRL and this project start several times: minutes


def gpu_sh(*args, **how) -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPT, "--device", "cpu", "--toy", *args], capture_output=True, text=True, **how)


def skipped(found) -> bool:
    """They want a GPU, and say so."""
    return set(found["results"].values()) == {"skipped"}


def same(found) -> bool:
    return {result["packing"] for result in found["results"]} == {"shared", "packed"} and all(
        result["logprob_difference"] < 1e-4 and result["gradient_difference"] < 1e-4 for result in found["results"]
    )


def shared(found) -> bool:
    return all(
        result["shared"]["tokens"] < result["padded"]["tokens"]
        and result["ratio"] == pytest.approx(result["padded"]["seconds"] / result["shared"]["seconds"])
        and 0 < result["shared"]["flop_utilisation"] < 1
        for result in found["results"]
    )


def measured(found) -> bool:
    return all(result["tokens_per_s"] > 0 and 0 < result["of_product"] < 1 for result in found["results"].values())


def awake_again(found) -> bool:
    return all(found["results"][kind]["same_samples"] for kind in ("kept", "discarded"))


def stepped(found) -> bool:
    return found["results"]["time/learn"] > 0 and found["results"]["sync/gap_mean"] < 0.05  # bfloat16


def beside_offline(found) -> bool:
    return found["ratio"] > 0 and 0 < found["prefix_cache_hits"] < 1


def checked(found) -> bool:
    """Each engine has compared what it holds with what was sent."""
    row = found["sizes"]["1M"]
    transports = [broadcast["transport"] for broadcast in row["broadcasts"]]
    return transports == ["object_store", "collective"] and 0 < row["copy_s"] < row["tcp_s"]


HOLDS = {"tests": skipped, "packing": same, "groups": shared, "learner": shared, "mfu": measured}
HOLDS |= {"sleep": awake_again, "steps": stepped, "rollout": beside_offline, "weights": checked}


def test_no_part_is_left_out(tmp_path):
    listed = re.findall(r"^(\S+): python benchmarks/", gpu_sh("--list", tmp_path).stdout, re.M)
    assert tuple(listed) == PARTS + BY_HAND and HOLDS.keys() == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_and_leaves_what_it_measured(part, tmp_path):
    done = gpu_sh("--only", part, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert HOLDS[part](json.loads((tmp_path / f"{part}.json").read_text()))


@pytest.fixture
def fake_python(tmp_path):
    """Sets what stands in for every benchmark: gives the environment in which it is found."""

    def write(script: str) -> dict[str, str]:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir(exist_ok=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"}

    return write


def test_parts_go_on_where_they_stopped_and_one_that_failed_is_named_and_done_again(tmp_path, fake_python):
    out = tmp_path / "out"
    leave = 'for last; do :; done; echo "{}" > "$last"'  # --json FILE comes last
    env = fake_python(f'case "$*" in *mfu*) echo no device; exit 1;; esac; {leave}')
    first = gpu_sh("--only", "groups,mfu,sleep", out, env=env)
    assert (first.returncode, first.stderr) == (1, "failed: mfu\n") and "no device" in first.stdout
    assert sorted(path.name for path in out.glob("*.json")) == ["groups.json", "sleep.json"]  # others are not stopped
    second = gpu_sh("--only", "groups,mfu,sleep", out, env=fake_python(leave))
    assert (second.returncode, second.stderr) == (0, "")
    assert "groups: there already" in second.stdout and "mfu: there already" not in second.stdout
    assert (out / "mfu.json").exists()
    assert "there already" not in gpu_sh("--only", "groups", "--again", out, env=fake_python(leave)).stdout


def test_a_real_size_of_one_layer_runs_a_step_at_its_real_widths(tmp_path):
    file = tmp_path / "sizes.json"
    words = ["--sizes", "qwen3_0.6b", "--layers", "1", "--dtype", "float32", "--json", file]
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("sizes.py"), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())["sizes"]["qwen3_0.6b, float32"]
    real = read_architecture(str(conf_folder() / "models" / "Qwen" / "Qwen3-0.6B"))
    embedded = -(-found["vocabulary"] // 64) * 64
    assert found["parameters"] == real.block + real.hidden * (embedded + 1)  # one table of tokens, and the last norm
    assert found["grad_norm"] > 0 and found["sync/gap_mean"] < 1e-3  # the engine computes what the learner does
