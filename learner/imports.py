"""Imports a rank's heavy libraries, and not what these import wherever it is installed: a rank starts the sooner."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = {"deepspeed": ("mlflow",), "transformers": ("sklearn", "scipy")}
"""By library: of its tuning, of assisted decoding, of losses of object detection. They are a quarter of a start."""


def import_libraries() -> None:
    """Import DeepSpeed and transformers, where they are not imported yet, without what is not used of them."""
    with left_out(*(package for library in UNUSED if library not in sys.modules for package in UNUSED[library])):
        import deepspeed  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel  # noqa: F401


@contextmanager
def left_out(*packages: str) -> Iterator[None]:
    """Within it these packages are as good as not installed, but for those that have been imported before."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for package in absent:
            sys.modules.pop(package, None)
