"""What a run leaves to its next driver, in its folder and in words."""

from types import SimpleNamespace

import pytest

from agrl.config.compose import load_config
from agrl.driver.folder.run_folder import RunFolder
from agrl.driver.services import keep_alive as module
from agrl.driver.services.keep_alive import KeepAlive, keep_alive
from agrl.errors import AgrlError, ConfigError

CLUSTER = ("ray=cluster", "ray.keep_alive_s=60")


def config(run, *words):
    return load_config([f"run={run}", "model.path=m", *words])


def runtime(taken=(), **refused):
    return SimpleNamespace(taken_over=list(taken), not_taken_over=refused)


@pytest.fixture(autouse=True)
def code(monkeypatch):
    monkeypatch.setattr(module, "code_digest", lambda: "code")


def test_the_next_driver_knows_the_secret_and_how_long_a_start_takes_and_nobody_else_reads_it(tmp_path):
    folder = RunFolder(tmp_path)
    first = KeepAlive(config(tmp_path, *CLUSTER), folder, resume=False)
    assert first.lease.seconds == 60 and first.lease.code == "code" and first.lease.patience_s == module.START_S
    assert first.started(runtime(), 200.0) == []
    assert folder.keep_alive.stat().st_mode & 0o777 == 0o600
    second = KeepAlive(config(tmp_path, *CLUSTER), folder, resume=True)
    assert second.lease.secret == first.lease.secret and second.lease.patience_s == 200.0
    said = second.started(runtime(["rollout-0", "learner-0"], **{"rollout-1": "it is dead"}), 4.0)
    assert said == [
        "Kept    taken over from a driver that is gone: learner-0, rollout-0; ready after 4.0 s instead of 3 min 20 s",
        "        rollout-1 was left and is started anew: it is dead",
    ]
    assert KeepAlive(config(tmp_path, *CLUSTER), folder, resume=True).lease.patience_s == 200.0, "not what it took now"
    second.forget()
    assert not folder.keep_alive.exists()
    third = KeepAlive(config(tmp_path, *CLUSTER), folder, resume=True)
    assert third.lease.secret != first.lease.secret
    assert third.started(runtime(), 9.0) == ["Kept    nothing was left to be taken over"]


def test_half_a_file_is_none_and_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.keep_alive.write_text('{"sec')
    assert KeepAlive(config(tmp_path, *CLUSTER), folder, resume=True).lease.secret
    with pytest.raises(AgrlError, match=r"nowhere/\.keep_alive"):
        KeepAlive(config(tmp_path, *CLUSTER), RunFolder(tmp_path / "nowhere"), resume=False)


def test_services_end_with_their_driver_unless_told_and_always_where_the_driver_started_ray(tmp_path):
    assert keep_alive(config(tmp_path, "ray=cluster"), RunFolder(tmp_path), resume=False) is None
    for words in (("ray=local",), ("ray=inline",), ("ray=cluster", "ray.placement=colocated")):
        with pytest.raises(ConfigError, match=r"ray\.keep_alive_s=60 contradicts"):
            config(tmp_path, *words, "ray.keep_alive_s=60")
    with pytest.raises(ConfigError, match="must be a number of seconds"):
        config(tmp_path, "ray=cluster", "ray.keep_alive_s=-1")
