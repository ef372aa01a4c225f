"""The trackers, offline: the same numbers, resumed as the same run, and no run that ends because of them."""

import json
import logging
import math
import struct
import time

import pytest

from agrl.config.compose import load_config
from agrl.config.saved import flat
from agrl.config.schema import TrackerName
from agrl.driver.folder.claim import claimed
from agrl.errors import ConfigError
from agrl.report.recorder import Recorder
from agrl.report.trackers import TrackedRun, open_trackers

SETTINGS = {"learner.lr": 1e-3, "trainer.trackers": ["mlflow"]}


def record(folder, name, first, steps):
    """Steps ``first`` up to ``steps`` of a run whose accuracy is a tenth of the step."""
    run = TrackedRun(folder, "rl", first, SETTINGS)
    with Recorder(folder, "rl", first, open_trackers([TrackerName(name)], run)) as recorder:
        for step in range(first, steps):
            recorder.log(step, {"train/accuracy": step / 10, "sync/gap_mean": math.nan})
    return run


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlflow'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which MLflow keeps for those who have one


def test_tensorboard_gets_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(tmp_path, "tensorboard", 0, 3)
    record(tmp_path, "tensorboard", 2, 4)  # goes on from step 2: what was written after it is gone
    events = EventAccumulator(str(tmp_path / "tensorboard" / "rl"))
    events.Reload()
    found = [(e.step, pytest.approx(e.value)) for e in events.Scalars("train/accuracy")]
    assert found == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert "sync/gap_mean" not in events.Tags()["scalars"]


def test_an_evaluation_is_a_number_of_its_set_after_the_steps_that_were_done(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = open_trackers([TrackerName.tensorboard], TrackedRun(tmp_path, "rl", 0, SETTINGS))
    with Recorder(tmp_path, "rl", 0, trackers) as recorder:
        recorder.log_evaluation(0, "wild", {"macro_f1": 0.25, "tier_f1/4": 0.5})
        recorder.log(0, {"train/accuracy": 1.0})
        recorder.log_evaluation(1, "wild", {"macro_f1": 0.75, "tier_f1/4": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard" / "rl"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("eval/wild/macro_f1")] == [(0, 0.25), (1, 0.75)]
    assert "eval/wild/tier_f1/4" in events.Tags()["scalars"]
    (row,) = (tmp_path / "metrics.jsonl").read_text().splitlines()  # a row is a step; evaluations have their files
    assert json.loads(row)["train/accuracy"] == 1.0


def test_mlflow_gets_the_same_numbers_and_a_resumed_run_is_the_same_run(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    from mlflow.tracking import MlflowClient

    record(tmp_path / "first", "mlflow", 0, 3)
    run = record(tmp_path / "first", "mlflow", 3, 5)
    client, identity = MlflowClient(), json.loads((tmp_path / "first" / "trackers.json").read_text())["rl"]["mlflow"]
    history = client.get_metric_history(identity, "train/accuracy")
    assert [(point.step, point.value) for point in history] == [(step, step / 10) for step in range(5)]
    found = client.get_run(identity)
    assert found.info.status == "FINISHED" and found.info.run_name == run.name == "first-rl"
    assert found.data.params["learner.lr"] == "0.001"
    experiment = client.get_experiment_by_name("agrl").experiment_id
    assert len(client.search_runs([experiment])) == 1
    record(tmp_path / "first", "mlflow", 0, 1)  # from the beginning: another run
    assert len(client.search_runs([experiment])) == 2


def test_mlflow_is_told_that_a_run_failed(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    from mlflow.tracking import MlflowClient

    run = TrackedRun(tmp_path, "sft", 0, {})
    with pytest.raises(KeyError), Recorder(tmp_path, "sft", 0, open_trackers([TrackerName.mlflow], run)):
        raise KeyError("something of the step")
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("agrl").experiment_id])
    assert found.info.status == "FAILED"


def test_weights_and_biases_gets_the_same_numbers_and_a_resumed_run_is_the_same_run(tmp_path):
    pytest.importorskip("wandb")
    for first, steps in ((0, 3), (3, 5)):
        record(tmp_path, "wandb", first, steps)
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    # offline-run-TIME-ID, and -1 behind it for the second of one second: `wandb sync` makes one run of one id
    assert len({folder.name.split("-")[3] for folder in folders}) == 1
    found = []
    for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        for items in (record.history.item for record in offline_records(file)):
            values = {"".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
            if values:
                found.append((values["_step"], values["step"], values["train/accuracy"]))
    assert found == [(step, step, step / 10) for step in range(5)]


def offline_records(file):
    """The records of a short .wandb file, in the log format of LevelDB: checksum, length and kind before each."""
    from wandb.proto.wandb_internal_pb2 import Record

    records, deadline = [], time.monotonic() + 20
    while not (records and records[-1].HasField("exit")):  # its writer is a process of its own
        assert time.monotonic() < deadline, f"{file} is not finished"
        time.sleep(0.05)
        data, at, records = file.read_bytes(), 7, []  # 7: after the mark of the format
        assert len(data) < 32768  # its blocks, over which a record would be split
        while at + 7 < len(data):
            _, length, kind = struct.unpack_from("<IHB", data, at)
            assert kind == 1  # a whole record
            records.append(Record.FromString(data[at + 7 : at + 7 + length]))
            at += 7 + length
    return records


def test_trackio_gets_the_same_numbers_and_a_resumed_run_is_the_same_run(tmp_path):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    record(tmp_path, "trackio", 0, 3)
    run = record(tmp_path, "trackio", 3, 5)
    (name,) = SQLiteStorage.get_runs("agrl")
    assert name.startswith(run.name)
    logs = SQLiteStorage.get_logs("agrl", name)
    assert [(row["step"], row["train/accuracy"]) for row in logs] == [(step, step / 10) for step in range(5)]


def test_a_tracker_that_is_not_installed_is_named_before_anything_else_happens(tmp_path, monkeypatch):
    monkeypatch.setattr("agrl.report.trackers.find_spec", lambda name: None)
    config = load_config([f"run={tmp_path / 'run'}", "model.path=m", "trainer.trackers=[wandb]"])
    with pytest.raises(ConfigError, match="names wandb, which is not installed") as error, claimed(config, "train"):
        pass
    assert "pip install 'agrl[wandb]'" in error.value.hint
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_open_is_named_and_the_others_are_closed(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    closed = []
    monkeypatch.setattr("agrl.report.trackers.tensorboard.TensorBoard.close", lambda self, error: closed.append(error))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://server")
    run = TrackedRun(tmp_path, "rl", 0, {})
    with pytest.raises(ConfigError, match="mlflow does not open") as error:
        open_trackers([TrackerName.tensorboard, TrackerName.mlflow], run)
    assert "MLFLOW_TRACKING_URI" in error.value.hint and closed == [error.value]


def test_a_tracker_that_fails_later_ends_no_run_and_is_left_out(tmp_path, caplog):
    class Broken:
        calls = 0

        def log(self, step, values):
            self.calls += 1
            raise OSError("the server is gone")

        def close(self, error):
            raise AssertionError("it was left out")

    broken = Broken()
    with caplog.at_level(logging.WARNING), Recorder(tmp_path, "rl", 0, [broken]) as recorder:
        for step in range(3):
            recorder.log(step, {"train/accuracy": 0.5})
    assert broken.calls == 1
    assert "Broken no longer gets this run's numbers" in caplog.text and "the server is gone" in caplog.text
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_the_settings_that_a_tracker_shows_are_the_keys_that_override_them():
    found = flat(load_config(["model.path=m", "trainer.trackers=[tensorboard,trackio]", "learner.lr=0.5"]))
    assert found["learner.lr"] == 0.5 and found["trainer.trackers"] == ["tensorboard", "trackio"]
    assert found["data.evaluation"] == {} and not any(isinstance(value, dict) and value for value in found.values())
