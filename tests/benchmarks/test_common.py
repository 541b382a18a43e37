from pathlib import Path

import pytest
from common import Marks

MARKS = Marks.of("speed", "speed.py")


def test_marks_replace_what_stands_between_them_only() -> None:
    page = Path("page.md")
    page.write_text(f"before\n{MARKS.begin}old\n{MARKS.end}\nafter\n")
    MARKS.replace(page, "new\n")
    assert MARKS.find(page) == "new\n"
    written = "<!-- speed: written by benchmarks/speed.py -->\nnew\n<!-- end of speed -->"
    assert page.read_text() == f"before\n{written}\nafter\n"


def test_marks_missing_from_a_page_are_an_error() -> None:
    page = Path("page.md")
    page.write_text(f"{MARKS.begin}but no end\n")
    with pytest.raises(ValueError, match=r"page\.md has no <!-- speed"):
        MARKS.replace(page, "new\n")
    assert page.read_text() == f"{MARKS.begin}but no end\n"
