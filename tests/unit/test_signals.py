"""Signals stop a command in order: the first interrupts, more do not disturb, a late one ends it by force."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from agrl import signals
from agrl.signals import received, stopping_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_interrupts_and_the_next_let_it_close(number):
    closed = []
    with stopping_signals():
        with pytest.raises(KeyboardInterrupt):
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                closed.append(True)
        assert received() == number and closed
    with stopping_signals():
        assert received() is None


def test_a_signal_that_is_held_back_stops_the_command_when_the_block_is_done():
    done = []
    with stopping_signals():
        with pytest.raises(KeyboardInterrupt):
            with signals.held_back():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("inside")
            done.append("after")
        assert done == ["inside"] and received() == signal.SIGTERM
    with stopping_signals(), signals.held_back():
        pass


def test_what_takes_too_long_is_not_waited_for():
    with stopping_signals():
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt), signals.held_back(0.2) as stopped:
            assert not stopped()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopped()
            time.sleep(20)
        assert 0.2 <= time.monotonic() - began < 10
    with stopping_signals(), pytest.raises(KeyboardInterrupt), signals.held_back(0):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it may take no time at all")


def test_a_second_ctrl_c_ends_at_once_when_a_person_has_pressed_it(monkeypatch):
    ended = []
    monkeypatch.setattr(signals, "_end_all", ended.append)
    with stopping_signals():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # one press may come twice
        assert not ended
        monkeypatch.setattr(signals._State, "at", time.monotonic() - 1.1)
        os.kill(os.getpid(), signal.SIGTERM)  # and schedulers send several
        assert not ended
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [signal.SIGINT]


def test_handlers_are_put_back_and_what_was_ignored_stays_ignored(monkeypatch):
    before = [signal.getsignal(number) for number in NUMBERS]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stopping_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert received() is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[2])
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_thread_changes_nothing():
    seen = []

    def look():
        with stopping_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_late_second_signal_ends_the_process_and_its_children():
    code = (
        "import os, signal, subprocess, sys; from agrl import signals; signals.OTHERS_S = 0\n"
        "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True)\n"
        "with signals.stopping_signals(lambda: print('not written', flush=True)):\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143
    child, said = done.stdout.splitlines()
    assert said == "not written"
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(child)) and psutil.Process(int(child)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


def test_every_signal_has_a_word():
    assert set(signals.SAID) == set(NUMBERS)
