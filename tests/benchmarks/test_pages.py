from pathlib import Path
from types import ModuleType

import busy_machine
import common
import fault_injection
import frameworks
import own_images
import photos
import pytest
import results
import speed_tables
import translation
import weights

SECTION = common.Section(Path("page.md"), "speed", "speed.py")
PROGRAMS = (
    *(busy_machine, fault_injection, frameworks, own_images),
    *(photos, results, speed_tables, translation, weights),
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_sections_of_the_pages_are_those_of_the_saved_results(program: ModuleType) -> None:
    for section, text in program.texts().items():
        assert section.read() == text


def test_each_section_of_the_pages_is_written_by_a_program() -> None:
    pages = [common.README, *common.DOCS.glob("*.md")]
    num_sections = sum(page.read_text().count(": written by benchmarks/") for page in pages)
    assert num_sections == sum(len(program.texts()) for program in PROGRAMS)


def test_section_replaces_what_stands_between_its_comments_only() -> None:
    begin, end = "<!-- speed: written by benchmarks/speed.py -->\n", "<!-- end of speed -->"
    SECTION.page.write_text(f"before\n{begin}old\n{end}\nafter\n")
    SECTION.write("new\n")
    assert SECTION.read() == "new\n"
    assert SECTION.page.read_text() == f"before\n{begin}new\n{end}\nafter\n"


def test_missing_comment_is_an_error() -> None:
    text = "<!-- speed: written by benchmarks/speed.py -->\nbut no end\n"
    SECTION.page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md has no <!-- speed"):
        SECTION.write("new\n")
    assert SECTION.page.read_text() == text
