"""What several modules start: Ray, once for each."""

import pytest

from actors.runtime import Runtime


@pytest.fixture(scope="module")
def runtime():
    runtime = Runtime("local")
    yield runtime
    runtime.shutdown()
