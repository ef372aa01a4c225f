"""Where the learner's compiled operator lives, and that a build which died does not block the next run."""

import os
import time

from learner import engine


def test_the_operator_is_kept_in_the_environment_and_stale_locks_go(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "OPERATORS", tmp_path)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")  # so that it is put back, also where it was not set
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    for name, age in (("dead", 1000), ("alive", 10)):
        lock = tmp_path / name / "lock"
        lock.parent.mkdir()
        lock.touch()
        os.utime(lock, (time.time() - age,) * 2)
    engine.find_operators()
    assert os.environ["TORCH_EXTENSIONS_DIR"] == str(tmp_path)
    assert not (tmp_path / "dead" / "lock").exists() and (tmp_path / "alive" / "lock").exists()


def test_a_folder_that_the_user_has_chosen_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    engine.find_operators()
    assert os.environ["TORCH_EXTENSIONS_DIR"] == str(tmp_path)
