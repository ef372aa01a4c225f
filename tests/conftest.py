"""Settings for all tests: a slow shared machine fails no property test, no test inherits another's console."""

import pytest
from hypothesis import settings

from agrl.report.terminal import close_terminal

settings.register_profile("agrl", deadline=None, max_examples=25)
settings.load_profile("agrl")


@pytest.fixture(autouse=True)
def _own_terminal():
    yield
    close_terminal()
