"""A part of a page between two marks is replaced, and the rest of the page is kept."""

import pytest

from agrl.marked import read_part, write_part

NUMBERS, WORDS = "<!-- numbers: begin -->\n1\n<!-- numbers: end -->", "<!-- words: begin -->\n<!-- words: end -->"
PAGE = f"# A page\n{NUMBERS}\n\nand more {WORDS}"


def test_a_part_is_read_as_it_was_written_and_nothing_else_of_the_page_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert read_part(page, "numbers") == "1" and read_part(page, "words") == ""
    write_part(page, "words", "one\n\ntwo\n")
    assert read_part(page, "words") == "one\n\ntwo"
    write_part(page, "words", "")
    write_part(page, "numbers", "2")
    write_part(page, "numbers", "2")
    assert page.read_text().split() == PAGE.replace("1", "2").split()
    assert page.read_text().startswith("# A page\n<!-- numbers: begin -->\n2\n<!-- numbers: end -->\n\nand more <")


@pytest.mark.parametrize(
    "text", ["", PAGE.replace("numbers: end", ""), PAGE + PAGE, PAGE.replace("s: begin", "s: end")]
)
def test_a_page_that_has_not_one_pair_of_marks_is_left_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page.md has no one part <!-- numbers"):
        write_part(page, "numbers", "2")
    assert page.read_text() == text
