"""Settings for all tests: a slow shared machine fails no property test, no test inherits a console or signals."""

import os
import signal

# Before torch is imported, here and in what tests start: there is no work for a second thread, and two that wait for
# each other beside another busy process, as beside the other half of the tests, take many times as long.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

from agrl.report.terminal import close_terminal

settings.register_profile("agrl", deadline=None, max_examples=25)
settings.load_profile("agrl")


@pytest.fixture(autouse=True, scope="session")
def _own_signals():
    """As in a terminal, whatever the tests were started by: `nohup` and a shell's `&` ignore signals."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _own_terminal():
    yield
    close_terminal()
