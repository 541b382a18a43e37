import json
import re
from pathlib import Path

import fault_injection

MARKED = """
import pytest

@pytest.mark.fault("disk")
@pytest.mark.parametrize("case", ["a.b", "[c]", "d"])
def test_one(case):
    assert case != "d"

@pytest.mark.fault("disk")
def test_two():
    pytest.skip("no disk")

@pytest.mark.fault("signal")
def test_three(): pass

def test_unmarked(): raise AssertionError
"""


def test_all_injected_faults_were_survived():
    counts = json.loads(fault_injection.SAVED.read_text())["kinds"]
    assert counts.keys() == fault_injection.read_promises().keys()
    for kind, files in counts.items():
        assert files
        assert all(survived == injected > 0 for survived, injected in files.values()), kind


def test_saved_counts_have_the_kinds_and_files_of_the_markers():
    tests = Path(__file__).parents[1]
    marked = {
        (kind, path.name)
        for path in tests.rglob("test_*.py")
        for kind in re.findall(r'^@pytest\.mark\.fault\("(\w+)"\)$', path.read_text(), re.MULTILINE)
        if path != Path(__file__)  # its markers are in the text of another test
    }
    counts = json.loads(fault_injection.SAVED.read_text())["kinds"]
    assert marked == {(kind, file) for kind, files in counts.items() for file in files}


def test_marked_cases_are_counted_by_kind_and_file(tmp_path):
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_disk.py").write_text(MARKED)
    counts = fault_injection.run_tests(tests)
    assert counts == {"disk": {"test_disk.py": [2, 4]}, "signal": {"test_disk.py": [1, 1]}}
