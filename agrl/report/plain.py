"""Consoles and tables that show text as it is: what comes from data, paths or settings is never markup.

Rich would read ``[/b]`` in a product's title as a tag, ``:smile:`` as a picture, and pass on the codes by which a
terminal is told to do something. Our own styling uses ``style=`` and ``Text``.
"""

from __future__ import annotations

import re
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


def visible(text: str) -> str:
    """``text`` with control characters written out, as in ``\\x1b``."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class PlainConsole(Console):
    """A console without markup, emoji codes or highlighting."""

    def __init__(self, file: IO[str], **settings: Any) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """A string that is to be shown, with control characters written out."""
        return super().render_str(visible(text), **settings)


class PlainTable(Table):
    """A table whose strings are shown as they are, on any console."""

    def __init__(self, title: str, **settings: Any) -> None:
        title_text = Text(visible(title), style="bold")
        super().__init__(title=title_text, title_justify="left", header_style="dim", **settings)

    def add_column(self, header: Any = "", *args: Any, **settings: Any) -> None:
        """As in rich; a string is shown as it is."""
        super().add_column(_plain(header), *args, **settings)

    def add_row(self, *cells: Any, **settings: Any) -> None:
        """As in rich; strings are shown as they are."""
        super().add_row(*map(_plain, cells), **settings)


def _plain(cell: Any) -> Any:
    return Text(visible(cell)) if isinstance(cell, str) else cell
