"""The one Jinja2 environment of the rule books' wording: sandboxed, and strict about unknown names."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@lru_cache(maxsize=256)
def compile_template(text: str) -> Template:
    """A template compiled once. Raises jinja2.TemplateError when the text is not a template."""
    return _ENVIRONMENT.from_string(text)
