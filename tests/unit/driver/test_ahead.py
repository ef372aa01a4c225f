"""Which runs may go on from what a checkpoint held ahead of training."""

import pickle

import pytest

from agrl.config.compose import load_config
from agrl.driver.folder.run_folder import Checkpoint
from agrl.driver.free_running import Ahead, Filling
from agrl.driver.step import RolloutBatch
from agrl.driver.training import _ahead
from agrl.errors import ConfigError

LOCKSTEP = RolloutBatch(4, [], {})
FREE = Ahead([RolloutBatch(4, [], {})], Filling(5), [])


def resumed(tmp_path, held, *words):
    if held is not None:
        (tmp_path / "ahead.pickle").write_bytes(pickle.dumps(held))
    return _ahead(load_config(["model.path=m", *words]), Checkpoint(tmp_path, 4, {}))


def test_a_mode_goes_on_from_its_own_and_from_nothing(tmp_path):
    assert resumed(tmp_path, None, "trainer.max_staleness=1") is None
    assert resumed(tmp_path, LOCKSTEP, "trainer.max_staleness=1") == LOCKSTEP
    assert resumed(tmp_path, FREE, "trainer.max_staleness=2", "trainer.overlap=free") == FREE


def test_a_run_may_go_from_lockstep_to_free(tmp_path):
    found = resumed(tmp_path, LOCKSTEP, "trainer.max_staleness=1", "trainer.overlap=free")
    assert found == Ahead([LOCKSTEP], Filling(5), [])


@pytest.mark.parametrize(
    ("held", "words", "said"),
    [
        (LOCKSTEP, [], "trainer.max_staleness=0, but"),
        (FREE, [], "trainer.max_staleness=0, but"),
        (FREE, ["trainer.max_staleness=1"], "trainer.overlap=lockstep, but .* was written with trainer.overlap=free"),
    ],
)
def test_and_not_back(tmp_path, held, words, said):
    with pytest.raises(ConfigError, match=said):
        resumed(tmp_path, held, *words)
