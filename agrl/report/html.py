"""Self-contained pages: one frame and style sheet for all, nothing fetched, light and dark as the reader's system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from agrl.report.progress import duration, number

PARTS = Path(__file__).parent  # of the templates and their style sheet


def write_page(path: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Write a template of this folder, filled with ``context``, and return the path; folders are made as needed.

    The frame (``base.html.j2``) wants ``title`` and ``facts``: label and value pairs for the head.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "number": number, "signed": _signed, "words": _words}
    frame = {
        "style": Markup((PARTS / "page.css").read_text(encoding="utf-8")),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(template).render(frame | dict(context)), encoding="utf-8")
    return path


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}".replace("-", "−")


def _words(name: str) -> str:
    return re.sub(r"[_-]+", " ", name)
