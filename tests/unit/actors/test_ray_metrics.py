"""What becomes a Ray metric, under which labels, and how much of it there is; without a Ray that runs."""

import math
import threading
from collections import Counter

import pytest

from actors import ray_metrics
from actors.ray_metrics import ActorMetrics, Beat, BusyClock, RunMetrics, family
from agrl.errors import ConfigError, DivergenceError


@pytest.fixture
def told(monkeypatch):
    """Every series that was set: (metric, its labels) -> value. Beats do not begin by themselves."""
    found = {}

    class Gauge:
        def __init__(self, name, about, labels):
            self.name, self.labels = name, labels

        def set(self, value, labels):
            assert set(labels) == set(self.labels)
            found[self.name, tuple(sorted(labels.items()))] = value

    ray_metrics._gauge.cache_clear()
    monkeypatch.setattr(ray_metrics, "Gauge", Gauge)
    monkeypatch.setattr(Beat, "_run", lambda self: None)
    yield found
    ray_metrics._gauge.cache_clear()


def value(told, metric, **labels):
    (found,) = [v for (name, of), v in told.items() if name == metric and labels.items() <= dict(of).items()]
    return found


def run_metrics(actors=dict, about=None):
    return RunMetrics("/runs/first", "rl", about or {"steps": 10, "step": 0}, actors, "/runs/first")


def test_a_logged_number_is_a_metric_of_its_run_and_phase(told):
    assert family("decisions/unguided/cap") == "agrl_decisions_unguided_cap"
    metrics = run_metrics()
    metrics.log(4, {"train/accuracy": 0.25, "decisions/unguided/cap": 3})
    assert value(told, "agrl_train_accuracy", run="/runs/first", phase="rl") == 0.25
    assert value(told, "agrl_decisions_unguided_cap") == 3
    assert value(told, "agrl_run_step") == 5 and value(told, "agrl_run_steps") == 10


def test_what_a_step_did_not_measure_is_not_told_again(told):
    metrics = run_metrics()
    metrics.log(0, {"train/accuracy": 0.25, "sync/gap_mean": 0.5})
    told.clear()
    metrics.log(1, {"train/accuracy": 0.5})
    assert not [name for name, _ in told if name == "agrl_sync_gap_mean"]


def test_numbers_that_are_not_finite_are_counted(told):
    metrics = run_metrics()
    metrics.log(0, {"loss/total": math.nan, "grad_norm": math.inf, "lr": 1.0})
    metrics.log(1, {"loss/total": 1.0, "sync/kl": math.nan})
    assert value(told, "agrl_run_not_finite") == 3
    assert not [name for name, _ in told if name == "agrl_grad_norm"]


def test_a_divergence_that_the_learner_stopped_at_before_it_was_logged_is_counted(told):
    metrics = run_metrics()
    metrics.log(0, {"loss/total": 1.0})
    metrics.close(DivergenceError("the gradient norm is not finite on learner rank 0"))
    assert value(told, "agrl_run_not_finite") == 1
    told.clear()
    another = run_metrics()
    another.log(0, {"loss/total": 1.0})
    another.close(KeyError("some other fault"))
    assert value(told, "agrl_run_not_finite") == 0


def test_an_evaluation_is_told_by_set_until_the_set_is_evaluated_again(told):
    metrics = run_metrics()
    metrics.log_evaluation(0, "wild", {"macro_f1": 0.25, "tier_f1/4": 0.5, "verdict_accuracy/size": 1.0})
    metrics.log_evaluation(0, "balanced", {"macro_f1": 0.75})
    metrics.log(0, {"train/accuracy": 0.5})
    told.clear()
    metrics.log(1, {"train/accuracy": 0.5})  # steps later it is still there
    assert value(told, "agrl_eval_macro_f1", set="wild", run="/runs/first", phase="rl") == 0.25
    assert value(told, "agrl_eval_macro_f1", set="balanced") == 0.75
    assert value(told, "agrl_eval_tier_f1_4") == 0.5 and value(told, "agrl_eval_step", set="wild") == 0
    told.clear()
    metrics.log_evaluation(2, "wild", {"macro_f1": 0.5})
    assert value(told, "agrl_eval_macro_f1", set="wild") == 0.5 and value(told, "agrl_eval_step", set="wild") == 2
    assert value(told, "agrl_eval_macro_f1", set="balanced") == 0.75
    assert not [name for name, _ in told if name == "agrl_eval_tier_f1_4"]  # not measured this time


def test_two_numbers_that_would_be_one_metric_are_refused_by_name(told):
    with pytest.raises(ConfigError, match="'reward/size_mean' and 'reward/size-mean' are the same Ray metric"):
        run_metrics().log(0, {"reward/size_mean": 1.0, "reward/size-mean": 0.0})


def test_an_actor_tells_how_busy_it_is_and_what_its_object_knows(told):
    class Engine:
        def gauges(self):
            return {"queue_length": 7, "weight_version": 3}

    metrics = ActorMetrics("/runs/first", "rollout-12")
    metrics._tick()
    assert value(told, "agrl_actor_busy_share", service="rollout", actor="rollout-12", run="/runs/first") == 0
    assert value(told, "agrl_actor_memory_bytes") > 1e6
    metrics.watch(Engine())
    metrics._tick()
    assert value(told, "agrl_actor_queue_length") == 7 and value(told, "agrl_actor_weight_version") == 3
    metrics.watch(object())  # one that has none
    metrics._tick()


def test_the_busy_share_counts_what_still_runs_and_what_runs_inside():
    now = [0.0]
    clock = BusyClock(lambda: now[0])
    with clock.running():
        now[0] = 3.0
        with clock.running():
            now[0] = 5.0
        assert clock.share() == 1.0
        now[0] = 6.0
    now[0] = 10.0
    assert clock.share() == pytest.approx(0.2)  # one of the five seconds since it was asked
    now[0] = 12.0
    assert clock.share() == 0.0


def test_an_error_in_a_gauge_is_told_once_and_the_beat_goes_on(monkeypatch, capfd):
    monkeypatch.setattr("ray._config", type("Config", (), {"metrics_report_interval_ms": lambda self: 1000})())
    beats = threading.Semaphore(0)

    def broken():
        beats.release()
        raise ZeroDivisionError("a wrong gauge")

    beat = Beat(broken)
    assert beats.acquire(timeout=10) and beats.acquire(timeout=10)
    beat.stop()
    assert capfd.readouterr().err.count("ZeroDivisionError: a wrong gauge") == 1


@pytest.mark.parametrize("engines", [2, 512])
def test_there_are_as_many_series_as_the_page_says(told, monkeypatch, engines):
    """docs/monitoring.md: L + 23 sets + 6 + 9 engines + 5 reward actors + 4 ranks + 4; its figure for 512."""

    class Engine:
        def gauges(self):
            return dict.fromkeys(("running", "queue_length", "kv_cache_share", "weight_version", "tokens_per_s"), 0.0)

    monkeypatch.setattr(ray_metrics, "memory_bytes", lambda children=True: 1.0)
    pools = {"rollout": engines, "reward": 64, "learner": 64}
    names = [f"{service}-{i}" for service, size in pools.items() for i in range(size)] + ["replay"]
    known = {
        name: {"restarts": 0.0, "state": 2.0} | ({"queue_length": 0.0} if "reward" in name else {}) for name in names
    }
    metrics = run_metrics(lambda: known, {"steps": 1, "step": 0, "gap_limit": 1.0})
    metrics.log(0, {f"some/number_{i}": 0.0 for i in range(82)})
    for held_out in ("balanced", "wild"):
        metrics.log_evaluation(0, held_out, {f"share_{i}": 0.0 for i in range(22)})
    for name in names:
        actor = ActorMetrics("/runs/first", name)
        actor.watch(Engine() if name.startswith("rollout") else object())
        actor._tick()
    assert len(told) == 82 + 2 * 23 + 6 + 9 * engines + 5 * 64 + 4 * 64 + 4
    if engines == 512:
        assert len(told) == 5322
    assert max(Counter(name for name, _ in told).values()) <= engines + 2 * 64 + 2  # no label that multiplies
