"""What a rank does not import, and that everybody else still can."""

import importlib.util
import subprocess
import sys

import pytest

from learner.imports import UNUSED, left_out


def test_a_package_that_is_left_out_is_as_good_as_not_installed_until_the_end(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with left_out("this"):
        assert importlib.util.find_spec("this") is None
        with pytest.raises(ImportError):
            import this  # noqa: F401
    assert importlib.util.find_spec("this") is not None


def test_what_was_imported_before_stays():
    with left_out("json"):
        import json
    assert json.loads("1") == 1 and sys.modules["json"] is json


def test_libraries_come_without_what_is_not_used_of_them_which_can_be_imported_later():
    unused = tuple(package for packages in UNUSED.values() for package in packages)
    program = f"""
import importlib.util, sys
from learner.imports import import_libraries
import_libraries()
assert "deepspeed" in sys.modules and "transformers.modeling_utils" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] in {unused}]
assert importlib.util.find_spec("sklearn")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
