"""Parts of a page that a program writes: what is between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

from pathlib import Path


def read_part(page: Path, name: str) -> str:
    """What a page has between the marks of ``name``. Raises ValueError where it has not one pair of them."""
    return _split(page, name)[1].strip("\n")


def write_part(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of ``name``. Raises ValueError where the page has not one pair of them."""
    head, _, rest = _split(page, name)
    page.write_text(f"{head}\n{text.strip()}\n{rest}")


def _split(page: Path, name: str) -> tuple[str, str, str]:
    """The page up to and with the first mark, what is between them, and from the second mark on."""
    text, begin, end = page.read_text(), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"{page} has no one part {begin} ... {end}")
    first, last = text.index(begin) + len(begin), text.index(end)
    return text[:first], text[first:last], text[last:]
