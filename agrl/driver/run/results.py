"""What every finished run leaves beside its model: summary.json with who sat where, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agrl.disk import write_whole
from agrl.driver.folder.run_folder import RunFolder
from agrl.network import Host
from agrl.report.events import EVENTS, deaths, read_events, said
from agrl.report.page import write_report
from agrl.report.progress import phase


def leave_results(
    folder: RunFolder, steps: int, summary: Mapping[str, Any], hosts: Mapping[str, Host], console
) -> None:
    """Write ``summary`` with the placement (actor -> host) as summary.json, and report.html; the run is finished."""
    lost = deaths(read_events(folder.path))
    placement = {actor: asdict(host) for actor, host in hosts.items()}
    whole = {**summary, "steps": steps, "placement": placement, "deaths": len(lost)}
    write_whole(folder.path / "summary.json", json.dumps(whole, indent=2) + "\n")
    with phase(console, "Writing the report"):
        write_report(folder.path)
    folder.finish(steps)
    if line := said(lost):
        console.print(f"{line}: {folder.path / EVENTS}", markup=False, soft_wrap=True)
