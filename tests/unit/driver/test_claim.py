"""A run's own folder: locked, never overwritten, and what ends a run says how to go on."""

import errno
import os
import subprocess
import sys

import pytest

from agrl.config.compose import load_config
from agrl.driver.folder.claim import claimed, overlap
from agrl.driver.folder.lock import locked
from agrl.driver.folder.run_folder import RunFolder
from agrl.errors import ConfigError, DiskError, LearnerError
from agrl.relevance.rulebook import load_rulebook

HOLD = """
import sys, pathlib
from agrl.driver.folder.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    input()
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "start").mkdir()
    return load_config(["experiment=agrl_tiny", f"run={tmp_path / 'run'}", f"model.path={tmp_path / 'start'}"])


def trained(config, command="train") -> RunFolder:
    """A run with one checkpoint."""
    with claimed(config, command) as folder:
        folder.start(config, load_rulebook("relevance"), command)
        folder.commit_checkpoint(folder.begin_checkpoint(3), {"step": 3}, keep=1)
    return folder


def refused(config, command="train", resume=False) -> ConfigError:
    with pytest.raises(ConfigError) as error, claimed(config, command, resume):
        pass
    return error.value


@pytest.mark.parametrize("first", ["sft", "dpo", "train"])
@pytest.mark.parametrize("second", ["sft", "dpo", "train"])
def test_a_run_is_not_overwritten_by_another(config, first, second):
    trained(config, first)
    error = refused(config, second)
    assert str(config.run) in str(error) and "checkpoints" in str(error)
    assert f"agrl {first} --resume {config.run}" in error.hint and "run=FOLDER" in error.hint


def test_a_run_is_resumed_by_its_own_command(config):
    assert "no checkpoint" in str(refused(config, resume=True))
    trained(config, "sft")
    assert "agrl sft --resume" in refused(config, "train", resume=True).hint
    with claimed(config, "sft", resume=True) as folder:
        assert folder.latest().step == 3


def test_a_folder_in_use_is_refused_until_its_process_is_gone_however_it_ended(config, tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, config.run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "in\n"
    for resume in (False, True):
        if resume:
            run = RunFolder(config.run)
            run.commit_checkpoint(run.begin_checkpoint(1), {"step": 1}, keep=1)
        error = refused(config, resume=resume)
        assert "in use" in str(error) and f"process {holder.pid} on" in str(error)
    holder.kill()  # no chance to tidy up
    holder.wait()
    with claimed(config, "train", resume=True):
        pass


def test_threads_of_one_process_exclude_each_other_as_well(tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("run", ["m", "m/run", "m/model/run", ".", "link", "link/run"])
def test_the_start_model_is_never_where_a_run_writes(tmp_path, run):
    model = tmp_path / "m" / "model" if "model" in run or run == "." else tmp_path / "m"
    model.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "m")
    config = load_config(["experiment=agrl_tiny", f"run={tmp_path / run}", f"model.path={model}"])
    error = refused(config)
    assert "model.path" in str(error) and str(tmp_path / run) in str(error)
    assert not (tmp_path / run / "logs").exists(), "nothing is written where nothing may be"


def test_folders_side_by_side_are_apart_whatever_their_names(tmp_path):
    for name in ("runs/a", "runs/a-2", "runs/ab/model"):
        (tmp_path / name).mkdir(parents=True)
    assert overlap(tmp_path / "runs/a", tmp_path / "runs/a-2") == ""
    assert overlap(tmp_path / "runs/a", tmp_path / "runs/ab/model") == ""
    assert overlap(tmp_path / "runs/new", tmp_path / "runs/ab/model") == ""


def test_a_run_folder_that_cannot_be_written_to_is_named(config, monkeypatch, tmp_path):
    def mkdir(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    error = refused(config)
    assert config.run in str(error) and "Read-only file system" in str(error)


def test_a_run_folder_that_is_a_file_is_named(config, tmp_path):
    (tmp_path / "run").write_text("")
    assert config.run in str(refused(config))


def ended(config, error):
    """What comes out of a run with a checkpoint that ends with ``error`` while it writes another."""
    trained(config)
    with pytest.raises(BaseException) as raised, claimed(config, "train", resume=True) as folder:
        folder.begin_checkpoint(4)
        raise error
    assert [p.name for p in folder.checkpoints.iterdir()] == ["step-000003"], "what is half written goes"
    assert f"agrl train --resume {config.run}" in raised.value.hint
    return raised.value


def test_whatever_ends_a_run_says_how_to_go_on(config):
    error = ended(config, LearnerError("learner-0 died", hint="look at its log"))
    assert isinstance(error, LearnerError) and error.hint.startswith("look at its log")


def test_an_interrupt_and_an_unexpected_error_say_how_to_go_on(config):
    assert isinstance(ended(config, KeyboardInterrupt()), KeyboardInterrupt)


def test_a_full_disk_is_named(config):
    error = ended(config, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert isinstance(error, DiskError) and "no space is left on the disk at /" in str(error)
