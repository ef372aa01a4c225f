"""A run over two hosts, generation beside training, as Prometheus sees it: every query of the dashboard and of the
alerts has something to show."""

import json
import math
import re
import shutil
import sys
import time

import pytest
import yaml

from actors.ray_metrics import family
from agrl.driver.folder.run_folder import RunFolder
from agrl.relevance.metrics import shares
from agrl.report.recorder import read_jsonl
from tests.cluster.hosts import PROJECT
from tests.cluster.prometheus import DEPLOYED, Prometheus
from tests.e2e.small_world import overrides

sys.path.insert(0, str(PROJECT / "deploy" / "grafana"))
from panels import BYTES, NUMBER, RATE, SECONDS, SHARE, Curve, Panel
from rows import ROWS

SEVERAL = ("ray=cluster", "learner.ranks=2", "rollout.actors=2", "reward.actors=2", "data.max_evaluation=4")
GUIDED = ("guidance.source=reference", "guidance.semantics=expert", "guidance.tau=0.25", "learner.lr=1e-3")
STEPS = 16
LOAD = (
    f"trainer.steps={STEPS}",
    "trainer.max_staleness=1",
    "trainer.prompts_per_step=16",
    "trainer.rollouts_per_prompt=8",
)
ACTORS = {"rollout": 2, "reward": 2, "learner": 2, "replay": 1}

# What is plausible for a tiny model: from, to. By unit, and by panel where the unit says too little.
BY_UNIT = {SHARE: (0, 1), SECONDS: (0, 300), BYTES: (0, 40e9), RATE: (0, 10e9), NUMBER: (0, 1000)}
BY_PANEL = {
    "Reward": (0, 1),
    "Loss": (-1, 20),
    "Gradient norm": (0, 100),
    "Entropy": (0, math.log(1024)),  # of the vocabulary
    "Length of an answer": (1, 48),
    "Tokens a second": (1, 1e6),
    "Tokens a second of an engine": (0, 1e6),
    "The slowest engines": (0, 1e6),
    "Gap between engines and learner": (0, 0.01),
    "Memory of the run": (1e8, 40e9),
    "Actors": (1, 2),
    "Restarts": (0, 0),
    "Lost numbers": (0, 0),
    "Version": (0, STEPS),
    "Effective sample size": (0.9, 1 + 1e-6),
    "Actors of the run": (1, 7),
    "Age of a batch": (0, 1),
    "How far the policy has moved meanwhile": (0, 1),
    "Effective sample size of older batches": (0.2, 1 + 1e-6),
}
# What may be 0 all along: on hosts that live, with reference answers for guidance, and engines that hold all samples.
NOTHING = {
    "ray_agrl_run_not_finite",
    "ray_agrl_reward_invalid",
    "ray_agrl_reward_timeouts",
    "ray_agrl_train_right_tier_wrong_verdict",
    "ray_agrl_policy_clip_fraction",
    "ray_agrl_decisions_drop",
    "(drop|unguided)",
    "ray_agrl_group_all_right",
    "ray_agrl_guide_level_mean",
    "ray_agrl_pool_restarts",
    "ray_agrl_rollout_copied_share",
    "queue_length",
    "min(",
}


@pytest.fixture(scope="module")
def prometheus(cluster):
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("needs Prometheus (Debian package prometheus)")
    running = Prometheus(cluster.hosts, host=0)
    yield running
    running.close()


@pytest.fixture(scope="module")
def start(cluster, world, prometheus):
    """A supervised start, so that some answers are right: its run, and when it began and ended."""
    run, began = cluster.hosts.shared / "watched-start", time.time()
    cluster.submit("agrl", "sft", *overrides(world, run, "ray=cluster")).wait(200)
    return run, began, time.time()


@pytest.fixture(scope="module")
def watched(cluster, world, start, prometheus):
    """A run from it, and when it began and ended."""
    run, began = cluster.hosts.shared / "watched", time.time()
    model = f"model.path={start[0] / 'model'}"
    cluster.submit("agrl", "train", *overrides(world, run, *SEVERAL, *GUIDED, *LOAD, model)).wait(240)
    return run, began, time.time()


def curves():
    for row in ROWS:
        for panel in row.panels:
            for curve in panel.curves:
                if not curve.needs:
                    yield row, panel, curve


def test_every_curve_of_the_dashboard_has_plausible_values(watched, prometheus):
    run, began, ended = watched
    shown = list(curves())
    found = prometheus.range([curve.query.replace("$run", str(run)) for _, _, curve in shown], began, ended)
    wrong = [
        f"{row.title} / {panel.title} / {curve.query}: {trouble}"
        for (row, panel, curve), series in zip(shown, found, strict=True)
        if (trouble := implausible(panel, curve, [value for line in series for value in line.values]))
    ]
    assert not wrong, "\n".join(wrong)


def implausible(panel: Panel, curve: Curve, values: list[float]) -> str:
    """What is wrong with what a curve shows; "" when nothing is."""
    if not values:
        return "no data"
    if not all(map(math.isfinite, values)):
        return "not finite"
    low, high = BY_PANEL.get(panel.title) or BY_UNIT[panel.unit]
    if min(values) < low or max(values) > high:
        return f"from {min(values)} to {max(values)}, not within {low} to {high}"
    if max(values) == min(values) == 0 and not any(name in curve.query for name in NOTHING):
        return "0 all along"
    return ""


def test_prometheus_has_the_numbers_that_the_run_folder_has(start, watched, prometheus):
    for phase, (run, began, ended) in (("sft", start), ("rl", watched)):
        rows = list(read_jsonl(run / "metrics.jsonl"))
        names = sorted(rows[-1].keys() - {"step", "phase", "time"})
        found = prometheus.range([f'ray_{family(name)}{{run="{run}",phase="{phase}"}}' for name in names], began, ended)
        for name, series in zip(names, found, strict=True):
            assert len(series) == 1, (name, series)
            logged = [row[name] for row in rows if row.get(name) is not None]
            assert set(series[0].values) <= set(logged) and series[0].values[-1] == logged[-1], name


def test_prometheus_has_the_evaluations_that_the_run_folder_has(cluster, watched, prometheus):
    run, began, ended = watched
    evaluations = {label: RunFolder(run).load_evaluation(label) for label in ("before", "after")}
    assert evaluations["before"].keys() == {"balanced", "wild"}
    for held_out, evaluation in evaluations["after"].items():
        before, after = shares(evaluations["before"][held_out]), shares(evaluation)
        queries = [f'ray_{family(f"eval/{name}")}{{run="{run}",set="{held_out}"}}' for name in after]
        for name, series in zip(after, prometheus.range(queries, began, ended + cluster.report_s), strict=True):
            assert len(series) == 1, (name, series)
            assert set(series[0].values) <= {before[name], after[name]}, name
            assert series[0].values[-1] == after[name], name


def test_each_actor_tells_its_own_numbers_and_there_are_as_many_series_as_the_page_says(watched, prometheus):
    run, began, ended = watched
    logged = {name for row in read_jsonl(run / "metrics.jsonl") for name in row} - {"step", "phase", "time"}
    (series,) = prometheus.range([f'{{__name__=~"ray_agrl_.+",run="{run}"}}'], began, ended)
    busy = [line.labels for line in series if line.labels["__name__"] == "ray_agrl_actor_busy_share"]
    found = {service: sorted({line["actor"] for line in busy if line["service"] == service}) for service in ACTORS}
    assert {service: len(actors) for service, actors in found.items()} == ACTORS
    assert {line["host"] for line in busy} <= {"h0", "h1", "h2"} and len({line["host"] for line in busy}) > 1
    engines = {line.labels["actor"]: line for line in series if line.labels["__name__"].endswith("_weight_version")}
    assert {line.values[-1] for line in engines.values()} == {STEPS}
    evaluated = sum(1 + len(shares(after)) for after in RunFolder(run).load_evaluation("after").values())
    assert len(series) == number_of_series(len(logged), evaluated, **ACTORS)


def number_of_series(logged: int, evaluated: int, rollout: int, reward: int, learner: int, replay: int) -> int:
    """As docs/monitoring.md has it."""
    return logged + evaluated + 6 + 9 * rollout + 5 * reward + 4 * learner + 4 * replay


def test_the_alerts_have_what_they_look_at_and_are_silent_on_a_healthy_run(watched, prometheus):
    run, began, ended = watched
    rules = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"][0]["rules"]
    metrics = sorted({name for rule in rules for name in re.findall(r"ray_agrl_\w+", rule["expr"])})
    assert len(metrics) >= 9
    found = prometheus.range([f'{name}{{run="{run}"}}' for name in metrics], began, ended)
    for name, series in zip(metrics, found, strict=True):
        assert series, f"{name}, which an alert looks at, has no data"
        assert all(math.isfinite(value) for line in series for value in line.values), name
    evaluated = prometheus.rules()
    assert {rule["name"] for rule in evaluated} == {rule["alert"] for rule in rules}
    assert all(rule["health"] == "ok" for rule in evaluated), evaluated
    (fired,) = prometheus.range([f'ALERTS{{run="{run}",alertstate="firing"}}'], began, ended)
    assert fired == []


def test_the_series_of_a_run_end_soon_after_it(cluster, watched, prometheus):
    run, _, ended = watched
    seconds = 3 * cluster.report_s  # Ray forgets after two of its report intervals
    time.sleep(max(0.0, ended + seconds + 1 - time.time()))
    (left,) = prometheus.range([f'{{__name__=~"ray_agrl_.+",run="{run}"}}'], ended + seconds, time.time())
    assert left == []


def test_ray_puts_its_dashboards_beside_ours_and_tells_grafana_where_they_are(cluster):
    folder = cluster.hosts.shared / "dashboards"
    assert json.loads((folder / "agrl.json").read_text())["uid"] == "agrl"
    assert (folder / "default_grafana_dashboard.json").is_file()  # Ray's own, written when its head started
    where = "/tmp/ray/session_latest/metrics/grafana/provisioning/dashboards/default.yml"
    told = yaml.safe_load(cluster.hosts.run(0, "cat", where))
    assert told["providers"][0]["options"]["path"] == str(folder)
