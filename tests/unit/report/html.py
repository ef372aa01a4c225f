"""What every page must hold to, for the tests of pages."""

import re
from html.parser import HTMLParser


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, in order; collects ids and links inside the page."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links = [], set(), set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a":
            self.links.add(attributes["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids.add(dict(attributes).get("id"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def fetches(page: str) -> bool:
    """Whether a page loads anything from outside itself."""
    return bool(re.search(r'(src|href)="(?!#)', page)) or "@import" in page or "url(http" in page
