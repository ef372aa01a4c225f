"""The dashboard's curves as a picture, for where there is no Grafana: ``draw.py RUN FILE.png [http://PROMETHEUS:9090]``.

RUN is the whole path of a run folder. Draws what Prometheus has of its last hours, by default that of this machine.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, PercentFormatter
from panels import BYTES, RATE, SHARE, Panel
from rows import ROWS

ACROSS, POINTS = 4, 250
FORMATS = {SHARE: PercentFormatter(1.0), BYTES: EngFormatter("B"), RATE: EngFormatter("B/s")}


def ask(server: str, path: str, **arguments: object) -> list[dict]:
    """The result of one question to Prometheus. Raises SystemExit when nothing answers."""
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.URLError as error:
        raise SystemExit(f"no Prometheus answers at {server}: {error.reason}") from None


def span(server: str, run: str, hours: float) -> tuple[float, float]:
    """The first and last second of the last hours at which there was something of the run. Raises SystemExit."""
    now = time.time()
    query = f'count(ray_agrl_actor_busy_share{{run="{run}"}})'
    found = ask(server, "query_range", query=query, start=now - hours * 3600, end=now, step=max(1, hours * 3600 / 9000))
    if not found:
        raise SystemExit(f"{server} has nothing of the run {run} in the last {hours:g} hours")
    at = [float(seconds) for seconds, _ in found[0]["values"]]
    return at[0], at[-1] + 1


def draw(panel: Panel, axes, server: str, run: str, begin: float, end: float) -> None:
    """One panel, with a legend as Grafana would make it."""
    for curve in panel.curves:
        step = max(1.0, (end - begin) / POINTS)
        query = curve.query.replace("$run", run)
        for series in ask(server, "query_range", query=query, start=begin, end=end, step=step):
            at = [datetime.fromtimestamp(float(seconds)) for seconds, _ in series["values"]]
            labels = series["metric"]
            name = re.sub(r"{{(\w+)}}", lambda m, labels=labels: labels.get(m[1], ""), curve.legend)
            name = name.removeprefix("ray_agrl_")
            axes.plot(at, [float(value) for _, value in series["values"]], label=name, linewidth=1.2)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.tick_params(labelsize=6)
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    if panel.unit in FORMATS:
        axes.yaxis.set_major_formatter(FORMATS[panel.unit])
    if axes.lines:
        axes.legend(fontsize=5, framealpha=0.6, edgecolor="none")
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), 1.05 * high)
    axes.grid(alpha=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("file")
    parser.add_argument("server", nargs="?", default="http://127.0.0.1:9090")
    parser.add_argument("--hours", type=float, default=24.0, help="how far back to look")
    args = parser.parse_args()
    begin, end = span(args.server, args.run, args.hours)
    shown = [(row, [p for p in row.panels if not any(c.needs for c in p.curves)]) for row in ROWS]
    lines = [(row.title, panels[i : i + ACROSS]) for row, panels in shown for i in range(0, len(panels), ACROSS)]
    figure, grid = plt.subplots(len(lines), ACROSS, figsize=(3.6 * ACROSS, 2.1 * len(lines)), layout="constrained")
    before = ""
    for (title, panels), axes in zip(lines, grid, strict=True):
        for place in axes[len(panels) :]:
            place.set_axis_off()
        for panel, place in zip(panels, axes, strict=False):
            draw(panel, place, args.server, args.run, begin, end)
        if title != before:
            axes[0].set_ylabel(title, fontsize=9, fontweight="bold")
        before = title
    figure.savefig(args.file, dpi=110)


if __name__ == "__main__":
    main()
