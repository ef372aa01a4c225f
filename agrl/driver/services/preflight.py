"""A look at every host of a cluster before any model is loaded: what one lacks is said at once, by its name."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.host_probe import look
from actors.runtime import Runtime
from agrl.config.schema import Config
from agrl.data.pool import files_in
from agrl.driver.folder.run_folder import PACKAGES
from agrl.errors import ClusterError

CODE = ("agrl", "actors", "learner", "replay", "conf")
LIMIT_S = 300.0  # the first process of a job on a host may have to wait for its runtime environment
SHARED_HINT = (
    "all hosts must see it, at the same path: put it on storage that they share (NFS or the like); /tmp and a relative "
    "path are each host's own"
)
SAME_HINT = (
    "install the same on all hosts; code that is sent along with the job is the same everywhere "
    "(`ray job submit --runtime-env deploy/runtime_env.yaml`)"
)


def check_hosts(config: Config, runtime: Runtime, run: Path) -> None:
    """Look at all hosts with a reserved place, side by side: do they see the run folder and the model, may they write,
    and do they have the driver's versions of code and packages?

    Raises ClusterError with a line for each host that cannot take part.
    """
    run.mkdir(parents=True, exist_ok=True)
    shared, token = run.absolute() / f".hosts-{secrets.token_hex(4)}", secrets.token_hex(16)
    shared.mkdir()
    try:
        (shared / "token").write_text(token)
        keys = {str(path.absolute()): key for path, key in _paths(config).items() if path.exists()}
        about = str(shared), "token"
        rest = list(keys), PACKAGES, CODE
        own = look(*about, "driver", *rest)
        answers = runtime.ask_hosts(look, *about, secrets.token_hex(8), *rest, seconds=LIMIT_S)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    problems = [
        (host, *problem)
        for host, answer in answers.items()
        for problem in _problems(config, run, own, token, keys, answer)
    ]
    if problems:
        hosts = len({host for host, *_ in problems})
        lines = [f"{host}: {what}" for host, what, _ in problems]
        hints = dict.fromkeys(hint for *_, hint in problems)
        number = f"{hosts} of {len(answers)} hosts" if len(answers) > 1 else "the host"
        raise ClusterError(f"{number} cannot take part in this run\n" + "\n".join(lines), hint="\n".join(hints))


def _paths(config: Config) -> dict[Path, str]:
    """What the actors read themselves, each with the key that names it; the driver alone reads the other data."""
    pool = files_in(config.data.train) if config.data.train else []
    return {Path(config.model.path): "model.path"} | dict.fromkeys(pool, "data.train")


def _problems(
    config: Config, run: Path, own: Mapping[str, Any], token: str, keys: Mapping[str, str], found: Any
) -> list[tuple[str, str]]:
    """What is wrong with a host, and what to do about it.

    ``keys``: path -> the key that names it. ``found``: the host's answer, or the error in its place.
    """
    if isinstance(found, TimeoutError):
        return [(f"{found}", "is it overloaded, or does its runtime environment take long to make? see its Ray logs")]
    if isinstance(found, Exception):
        said = next((line for line in reversed(str(found).splitlines()) if line.strip()), "")
        return [(f"it could not be looked at: {said.strip()}", "`ray status` and the Ray logs of the host say more")]
    problems = []
    if found["token"] != token:
        problems.append((f"it does not see the run folder {run.absolute()} (run={config.run})", SHARED_HINT))
    elif found["refused"]:
        problems.append((f"it cannot write to the run folder {run.absolute()}: {found['refused']}", SHARED_HINT))
    for path, files in own["paths"].items():
        if found["paths"][path] is None:
            problems.append((f"it does not see {path} ({keys[path]})", SHARED_HINT))
        elif found["paths"][path] != files:
            problems.append((f"{path} ({keys[path]}) holds other files there than here", SHARED_HINT))
    for name, version in {"Python": own["python"], **own["packages"]}.items():
        its = found["python"] if name == "Python" else found["packages"][name]
        if its != version:
            problems.append((f"{name} {its or 'is missing'}, the driver has {version or 'none'}", SAME_HINT))
    if different := [file for file in own["code"] | found["code"] if own["code"].get(file) != found["code"].get(file)]:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        problems.append(
            (f"another version of AGRL: {', '.join(different[:3])}{more} differ from the driver's", SAME_HINT)
        )
    return problems
