"""The replay actor dies whenever it will: what it answers is what it would have answered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.service import ServiceDied
from agrl.config.schema import GuidanceConfig, ReplayConfig
from agrl.data.pool import Pool
from agrl.driver.services import replay_journal
from agrl.driver.services.replay_journal import JournaledReplay
from agrl.errors import ActorError, ConfigError
from replay.core import ReplayCore
from tests.unit.actors.fakes import FragileRuntime
from tests.unit.replay.build import example
from tests.unit.replay.test_core import POOL, play


class MortalReplay(ReplayCore):
    """``deaths``: numbers of the calls in which it dies, when it has done its work, or before."""

    deaths, calls = frozenset(), 0

    def __init__(self, *settings):
        self.dead = False
        super().__init__(*settings)

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name.startswith("_") or not callable(found):
            return found

        def mortal(*args):
            MortalReplay.calls += 1
            dies = MortalReplay.calls in MortalReplay.deaths
            if self.dead or (dies and MortalReplay.calls % 2):
                self.dead = True
                raise ServiceDied("replay died")
            answer = found(*args)
            if dies:
                self.dead = True
                raise ServiceDied("replay died when it had done its work")
            return answer

        return mortal


def journaled(folder, deaths=(), restarts=999):
    MortalReplay.deaths, MortalReplay.calls = frozenset(deaths), 0
    examples, runtime = [example(f"p{i}") for i in range(POOL)], FragileRuntime()
    settings = ReplayConfig(), GuidanceConfig(), 8, 0
    start = lambda: runtime.start(MortalReplay, "replay", Pool.of(examples), *settings)  # noqa: E731
    core = lambda: ReplayCore(Pool.of(examples), *settings)  # noqa: E731
    return JournaledReplay(start, core, folder / ".replay.npz", restarts, 60.0)


class Asked:
    """The plain interface of a core over that of a service."""

    def __init__(self, service):
        self._service = service

    def __getattr__(self, method):
        return lambda *args: self._service.call(method, *args).result()


def steps(service, numbers):
    seen = []
    for number in numbers:
        seen += play(Asked(service), [number])
        service.mark()
    return seen


@settings(max_examples=60)
@given(
    deaths=st.sets(st.integers(1, 80), max_size=8), length=st.integers(1, 30), reloads=st.sampled_from((None, 0, 3, 5))
)
def test_whenever_it_dies_it_draws_and_decides_as_if_nothing_had_happened(deaths, length, reloads, tmp_path_factory):
    found = []
    for who in (deaths, ()):
        folder = tmp_path_factory.mktemp("replay")
        service = journaled(folder, who)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replay_journal, "LONG", length)
            seen = steps(service, range(4))
            service.call("save", str(folder / "a.npz")).result()
            seen += steps(service, range(4, 6))
            if reloads is not None:
                service.call("load", str(folder / "a.npz")).result()
                (folder / "a.npz").unlink()
                seen += steps(service, range(4, 4 + reloads))
            assert len(service._calls) < length + 5
        found.append((seen, service.call("sample", POOL, 9).result()))
    assert found[0] == found[1]


def test_the_state_of_the_last_step_can_be_written_in_the_middle_of_the_next(tmp_path):
    service, other = journaled(tmp_path), journaled(tmp_path)
    for one in (service, other):
        steps(one, range(3))
    service.call("sample", 4, 3).result()
    service.save_marked(tmp_path / "middle.npz")
    other.call("save", str(tmp_path / "step.npz")).result()
    with np.load(tmp_path / "middle.npz") as one, np.load(tmp_path / "step.npz") as two:
        assert one.files == two.files and all(np.array_equal(one[name], two[name]) for name in one.files)


def test_it_is_given_up_when_it_dies_again_and_again(tmp_path):
    with pytest.raises(ActorError, match=r"lost 3 times, more than replay.restarts=2 allows; last: replay died"):
        steps(journaled(tmp_path, range(9, 99), restarts=2), range(9))


def test_without_restarts_there_is_no_journal(tmp_path):
    service = journaled(tmp_path, [9], restarts=0)
    with pytest.raises(ServiceDied, match="replay died"):
        steps(service, range(9))
    assert service._calls == []


def test_an_error_of_its_own_comes_through_and_comes_again_when_the_calls_are_made_again(tmp_path):
    service = journaled(tmp_path, [3])
    for _ in range(3):
        with pytest.raises(ConfigError, match="pool"):
            service.call("sample", POOL + 1, 0).result()
    assert service.lost == 1


def test_what_is_ended_stays_so_and_leaves_no_file(tmp_path):
    service = journaled(tmp_path)
    steps(service, range(2))
    service._save()
    service.kill()
    with pytest.raises(ServiceDied):
        service.call("metrics").result()
    assert list(tmp_path.iterdir()) == []
