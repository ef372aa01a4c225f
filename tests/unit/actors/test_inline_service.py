"""The inline runtime keeps the promises of ``actors.service``."""

import os

import pytest

from actors.runtime import Runtime, wait_any
from actors.service import ServiceDied
from agrl.errors import ConfigError, DataError


class Counter:
    def __init__(self, start: int) -> None:
        if start < 0:
            raise DataError("start is negative", hint="count up")
        self.value = start
        self.seen = os.environ.get("AGRL_TEST_VARIABLE")

    def add(self, amount: int, times: int = 1) -> int:
        self.value += amount * times
        return self.value

    def count(self, n: int):
        for _ in range(n):
            self.value += 1
            yield self.value
        if n == 2:
            raise DataError("two is too many")

    def variable(self) -> str | None:
        return self.seen


@pytest.fixture
def runtime() -> Runtime:
    return Runtime("inline")


def test_calls_run_in_order_and_a_pending_argument_travels_as_its_value(runtime):
    first, second = runtime.start(Counter, "first", 1), runtime.start(Counter, "second", 10)
    pending = first.call("add", 4)
    assert second.call("add", pending, times=2).result() == 20
    assert first.call("add", runtime.put(7)).result() == 12


def test_who_waits_for_a_result_is_told_at_once(runtime):
    counter, told = runtime.start(Counter, "counter", 0), []
    counter.call("add", 1).on_done(lambda: told.append("called"))
    counter.aside("add", 1).on_done(lambda: told.append("called aside"))
    assert told == ["called", "called aside"]


def test_an_error_in_the_constructor_keeps_its_type_and_hint(runtime):
    service = runtime.start(Counter, "counter", -1)
    for use in (service.ready, lambda: service.call("add", 1)):
        with pytest.raises(DataError, match="negative") as caught:
            use().result()
        assert caught.value.hint == "count up"


def test_a_killed_service_says_who_died(runtime):
    service = runtime.start(Counter, "counter-7", 0)
    service.kill()
    with pytest.raises(ServiceDied, match="counter-7"):
        service.call("add", 1).result()


def test_wait_any_gives_everything_readable(runtime):
    service = runtime.start(Counter, "counter", 0)
    sources = [service.call("add", 1), service.call("add", 2)]
    assert wait_any(sources, 0.0) == sources
    assert wait_any([]) == []


def test_the_environment_is_set_where_it_is_not_set_already(runtime, monkeypatch):
    monkeypatch.delenv("AGRL_TEST_VARIABLE", raising=False)
    service = runtime.start(Counter, "counter", 0, env={"AGRL_TEST_VARIABLE": "given"})
    assert service.call("variable").result() == "given"
    monkeypatch.setenv("AGRL_TEST_VARIABLE", "mine")
    service = runtime.start(Counter, "counter", 0, env={"AGRL_TEST_VARIABLE": "given"})
    assert service.call("variable").result() == "mine"


def test_an_unknown_mode_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"ray\.mode.*'remote'"):
        Runtime("remote")
