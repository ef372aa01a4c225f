"""Services on a real Ray: the promises of ``actors.service`` across processes."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from actors.calls import Calls
from actors.ray_hosts import check_reachable
from actors.ray_service import start_ray
from actors.runtime import wait_any
from actors.service import ServiceDied
from agrl.errors import ActorError, ClusterError, DataError


class Worker:
    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise DataError("start is negative", hint="count up")
        self.value = start
        print("built with", os.environ.get("AGRL_TEST_VARIABLE"), flush=True)

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def until(self, value: int) -> int:
        while self.value < value:
            time.sleep(0.01)
        return self.value

    def much(self) -> bytes:
        return bytes(3_000_000)

    def refuse(self):
        raise DataError("two is too many", hint="take three")


def test_results_travel_between_services_and_errors_keep_type_and_hint(runtime):
    first, second = runtime.start(Worker, "first", 1), runtime.start(Worker, "second", 10)
    assert second.call("add", first.call("add", 4)).result() == 15
    assert first.call("add", runtime.put(7)).result() == 12
    with pytest.raises(DataError, match="two is too many") as caught:
        first.call("refuse").result()
    assert caught.value.hint == "take three"
    assert "raised in first" in caught.value.__notes__[0]
    with pytest.raises(TimeoutError, match="first"):
        first.call("sleep", 1.0).result(timeout=0.05)


def test_an_error_in_the_constructor_comes_as_itself_from_every_use(runtime):
    broken = runtime.start(Worker, "broken", -1)
    for use in (broken.ready, lambda: broken.call("add", 1)):
        with pytest.raises(DataError, match="negative") as caught:
            use().result()
        assert caught.value.hint == "count up"


def test_calls_of_several_services_come_back_as_they_end(runtime):
    slow, fast = runtime.start(Worker, "slow"), runtime.start(Worker, "fast")
    slow.ready().result(), fast.ready().result()
    assert wait_any([slow.call("sleep", 0.2)], timeout=0.01) == []
    calls = Calls()
    calls.add("slow", slow.call("sleep", 0.5))
    for _ in range(2):
        calls.add("fast", fast.call("add", 10**6))
    calls.add("large", fast.call("much"))
    order = []
    for _ in range(4):
        key, pending = calls.next(10.0)
        pending.result(0.0 if key != "large" else 10.0)
        order.append(key)
    assert order == ["fast", "fast", "large", "slow"] and calls.next(0.0) is None


def test_a_call_aside_is_answered_while_another_one_takes_long(runtime):
    worker = runtime.start(Worker, "worker")
    worker.ready().result()
    long = worker.call("until", 7)
    assert worker.aside("add", 7).result(10.0) == 7
    assert long.result(10.0) == 7


def test_a_forgotten_call_of_much_is_no_harm(runtime):
    worker = runtime.start(Worker, "worker")
    calls = Calls()
    calls.add("worker", worker.call("much"))
    calls.forget("worker")
    assert calls.next(1.0) is None and worker.call("add", 1).result() == 1


def test_a_process_gets_its_environment_and_writes_to_its_log(runtime, tmp_path):
    log = tmp_path / "logs" / "worker.log"
    worker = runtime.start(Worker, "worker", env={"AGRL_TEST_VARIABLE": "given"}, log_file=log)
    worker.ready().result()
    assert "built with given" in log.read_text()


def test_a_dead_process_is_named_with_the_end_of_its_log(runtime, tmp_path):
    worker = runtime.start(Worker, "worker-3", log_file=tmp_path / "worker.log")
    pid = worker.call("pid").result()
    calls = Calls()
    calls.add("worker", worker.call("sleep", 60.0))
    os.kill(pid, signal.SIGKILL)
    _, pending = calls.next(30.0)
    with pytest.raises(ServiceDied, match="worker-3 died") as caught:
        pending.result()
    assert "built with" in caught.value.hint
    with pytest.raises(ServiceDied, match="worker-3 died"):
        worker.call("add", 1).result(10.0)


def test_who_waits_for_the_result_of_a_dead_service_is_not_called_dead(runtime):
    doomed, waiting = runtime.start(Worker, "doomed"), runtime.start(Worker, "waiting")
    doomed.ready().result(), waiting.ready().result()
    pending = waiting.call("add", doomed.call("sleep", 60.0))
    doomed.kill()
    with pytest.raises(ActorError, match="waiting was to work on the result of another actor") as caught:
        pending.result(10.0)
    assert not isinstance(caught.value, ServiceDied)
    assert waiting.call("add", 1).result() == 1


@pytest.mark.parametrize("variable", ["HOME", "RAY_TMPDIR"])
def test_why_ray_could_not_start_is_said_where_it_cannot_write(monkeypatch, tmp_path, variable):
    def init(**_):
        raise PermissionError("one of a hundred reasons")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv(variable, "/dev/null/nowhere")  # also root cannot write there
    with pytest.raises(
        ActorError, match=r"cannot start Ray on this machine: it keeps .* in /dev/null/nowhere"
    ) as error:
        start_ray(None, 1, "agrl")
    assert f"set {variable} to a folder" in error.value.hint
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(ActorError, match="one of a hundred reasons"):
        start_ray(None, 1, "agrl")


def test_a_host_without_a_head_and_an_address_of_ray_client_are_refused_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_reachable(address)
    with pytest.raises(ClusterError, match=f"cannot join the Ray cluster at {address}: .*refused"):
        check_reachable(address)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ClusterError, match="RAY_ADDRESS=ray://head:10001 is an address of Ray Client"):
        check_reachable("auto")
