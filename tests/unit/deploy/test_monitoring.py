"""What is deployed to watch runs: the dashboard is the one that its script makes, each alert does what it says."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[3]
GRAFANA, PROMETHEUS = PROJECT / "deploy" / "grafana", PROJECT / "deploy" / "prometheus"
ALERTS = ["AgrlStepHangs", "AgrlNoFirstStep", "AgrlGap", "AgrlActorDead", "AgrlActorsRestart", "AgrlNotFinite"]
ALERTS += ["AgrlAccuracyFalls", "AgrlHeldOutFalls", "AgrlNoProgress"]

sys.path.insert(0, str(GRAFANA))
from panels import words  # noqa: E402
from rows import ROWS  # noqa: E402

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian package prometheus)")


def test_the_dashboard_is_the_one_that_its_script_makes():
    pytest.importorskip("grafana_foundation_sdk")
    from dashboard import build

    assert (GRAFANA / "agrl.json").read_text() == build(), "run python deploy/grafana/dashboard.py"


def test_the_dashboard_answers_the_eight_questions_and_every_panel_says_what_it_tells():
    assert [row.title for row in ROWS] == [
        "Is it learning?",
        "Is it healthy?",
        "Where does the time go?",
        "Guidance and replay",
        "Who waits for whom?",
        "Generation beside training",
        "Weights",
        "Hosts",
    ]
    for row in ROWS:
        assert len({panel.title for panel in row.panels}) == len(row.panels) >= 4
        for panel in row.panels:
            assert len(panel.description) > 15, panel.title


def test_every_curve_of_a_run_is_of_the_chosen_run():
    for curve in (curve for row in ROWS for panel in row.panels for curve in panel.curves):
        for selector in re.findall(r"ray_agrl_\w+(\{[^}]*\})?", curve.query.split("{__name__")[0]):
            assert 'run="$run"' in selector, curve.query


def test_a_curve_that_the_metrics_page_does_not_explain_is_refused():
    with pytest.raises(KeyError, match="does not explain train/nonsense"):
        words("train/nonsense")


def test_what_ray_tells_of_gpus_is_called_so_by_this_ray():
    source = Path(find_spec("ray").origin).with_name("dashboard") / "modules" / "reporter" / "reporter_agent.py"
    known = set(re.findall(r'"(node_\w+)": Gauge\(', source.read_text()))
    curves = [curve for row in ROWS for panel in row.panels for curve in panel.curves if curve.needs == "GPU"]
    assert len(curves) == 2
    for name in {name for curve in curves for name in re.findall(r"ray_(\w+)", curve.query)}:
        assert name in known, name


@needs_promtool
def test_each_alert_fires_on_its_fault_by_name_and_is_silent_otherwise():
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=PROMETHEUS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_that_it_fires():
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    cases = [
        case
        for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert [rule["alert"] for rule in rules] == ALERTS
    for name in ALERTS:
        outcomes = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == name]
        assert True in outcomes and outcomes.count(False) >= 2, name  # on its fault; before it, and on a healthy run


@needs_promtool
def test_prometheus_takes_the_configuration_that_the_page_starts_it_with():
    done = subprocess.run(
        ["promtool", "check", "config", str(PROMETHEUS / "prometheus.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "9 rules found" in done.stdout, done.stdout + done.stderr
