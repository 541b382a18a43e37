from pathlib import Path

import busy_machine
import common
import experiments
import fault_injection
import frameworks
import own_images
import photos
import pytest
import results
import speed
import translation
import weights

PROGRAMS = (
    *(busy_machine, experiments, fault_injection, frameworks, own_images),
    *(photos, results, speed, translation, weights),
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_sections_of_the_pages_are_those_of_the_saved_results(program):
    for section, text in program.texts().items():
        assert section.read() == text
        begin = f"<!-- {section.name}: written by benchmarks/{program.__name__}.py -->\n"
        assert begin in section.page.read_text()


def test_each_section_of_the_pages_is_written_by_a_program():
    pages = [common.README, *common.DOCS.glob("*.md")]
    num_sections = sum(page.read_text().count(": written by benchmarks/") for page in pages)
    assert num_sections == sum(len(program.texts()) for program in PROGRAMS)


def test_section_replaces_what_stands_between_its_comments_only():
    section = common.Section(Path("page.md"), "speed")
    begin, end = "<!-- speed: written by benchmarks/speed.py -->\n", "<!-- end of speed -->"
    section.page.write_text(f"before\n{begin}old\n{end}\nafter\n")
    section.write("new\n")
    assert section.page.read_text() == f"before\n{begin}new\n{end}\nafter\n"
