"""Prometheus on a host of the cluster, as docs/monitoring.md starts it, but asking every second."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.hosts import PROJECT, HostError, Hosts

DEPLOYED = PROJECT / "deploy" / "prometheus"
ASK = """
import json, sys, urllib.parse, urllib.request
for path, arguments in json.load(sys.stdin):
    url = "http://127.0.0.1:9090/" + path + "?" + urllib.parse.urlencode(arguments)
    try:
        answer = urllib.request.urlopen(url, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error  # a query that cannot be answered: the text says why
    print(json.dumps(answer.read().decode()))
"""


@dataclass(frozen=True)
class Series:
    """One line of a graph. ``points``: (seconds since 1970, value)."""

    labels: dict[str, str]
    points: list[tuple[float, float]]

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]


class Prometheus:
    """Runs on ``host`` of ``hosts``, with the alert rules of the project, until it is closed."""

    def __init__(self, hosts: Hosts, host: int) -> None:
        self.hosts, self.host = hosts, host
        folder = hosts.shared / "prometheus"
        folder.mkdir(exist_ok=True)
        settings = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["rule_files"] = [str(DEPLOYED / name) for name in settings["rule_files"]]
        for job in settings["scrape_configs"]:
            for discovery in job["file_sd_configs"]:
                discovery["refresh_interval"] = "1s"
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self.log = folder / "log"
        data = ["--storage.tsdb.path=/tmp/prometheus", "--web.listen-address=127.0.0.1:9090"]
        with self.log.open("w") as log:
            self._process = hosts.popen(
                host, "prometheus", f"--config.file={folder / 'prometheus.yml'}", *data, stdout=log
            )
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self._ask([("-/ready", {})])
                return
            except HostError as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise HostError(f"{error}\n{Path(self.log).read_text()}") from None
                time.sleep(0.2)

    def range(self, queries: list[str], begin: float, end: float) -> list[list[Series]]:
        """What each query gives from ``begin`` to ``end``, second by second. Raises HostError for one that fails."""
        span = {"start": begin, "end": end, "step": 1}
        answers = self._ask([("api/v1/query_range", span | {"query": query}) for query in queries])
        found = []
        for query, text in zip(queries, answers, strict=True):
            answer = json.loads(text)
            if answer["status"] != "success":
                raise HostError(f"{query}: {answer}")
            found.append(
                [
                    Series(series["metric"], [(float(at), float(value)) for at, value in series["values"]])
                    for series in answer["data"]["result"]
                ]
            )
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, with their state and health."""
        (text,) = self._ask([("api/v1/rules", {})])
        return [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, and how that went."""
        (text,) = self._ask([("api/v1/targets", {})])
        return json.loads(text)["data"]["activeTargets"]

    def _ask(self, requests: list[tuple[str, dict[str, Any]]]) -> list[str]:
        asking = self.hosts.shared / "prometheus" / "ask.json"
        asking.write_text(json.dumps(requests))
        said = self.hosts.run(self.host, "sh", "-c", '"$0" -c "$1" < "$2"', sys.executable, ASK, asking)
        return [json.loads(line) for line in said.splitlines()]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
