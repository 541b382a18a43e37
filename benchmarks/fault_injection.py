"""Injects every fault that a run is promised to survive, and counts the survivors.

    python benchmarks/fault_injection.py

Runs all tests with a marker `@pytest.mark.fault(kind)`, also the slow ones; one test case injects
one fault, or several in sequence. Raw counts go to `results/fault_injection.json`. The table of
docs/resume-and-faults.md lists the kinds and, written by hand, what happens and what is promised;
this program writes its other columns.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import common
import pytest
from common import BENCHMARKS, DOCS, RESULTS, ROOT, Section, Texts, markdown_table

SAVED = RESULTS / "fault_injection.json"
SECTION = Section(DOCS / "resume-and-faults.md", "faults")

Counts = dict[str, dict[str, list[int]]]  # kind -> test file -> [survived, injected]


def read_promises() -> dict[str, list[str]]:
    """For each kind of fault its first three cells: the kind, what happens, what is promised."""
    rows = [line.strip("| ").split(" | ") for line in SECTION.read().splitlines()]
    return {cells[0].strip("`"): cells[:3] for cells in rows[2:]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a pytest plugin: writes the kinds of each test into the JUnit report."""
    for item in items:
        for marker in item.iter_markers("fault"):
            item.user_properties.append(("fault", marker.args[0]))


def run_tests(tests: Path) -> Counts:
    """Runs the marked tests of a folder, and counts them; a skipped one did not survive."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", str(tests), "--numprocesses", "2", "-m", "fault"]
        command += ["-p", "fault_injection", f"--junitxml={report}"]
        subprocess.run(command, cwd=BENCHMARKS, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    counts: Counts = {}
    for case in cases:
        file = f"{case.attrib['classname'].split('.')[-1]}.py"
        survived = not any(child.tag in ("failure", "error", "skipped") for child in case)
        for fault in case.iterfind("properties/property[@name='fault']"):
            numbers = counts.setdefault(fault.attrib["value"], {}).setdefault(file, [0, 0])
            numbers[0] += survived
            numbers[1] += 1
    return counts


def measure() -> None:
    """Runs the tests, and saves the counts."""
    common.save(SAVED, kinds=run_tests(ROOT / "tests"))


def texts() -> Texts:
    """One line for each kind of fault."""
    counts: Counts = json.loads(SAVED.read_text())["kinds"]
    rows = []
    for kind, promise in read_promises().items():
        files = counts[kind]
        survived, injected = (sum(numbers[i] for numbers in files.values()) for i in (0, 1))
        tests = ", ".join(f"`{file}`" for file in files)
        rows.append([*promise, tests, str(injected), str(survived)])
    columns = ["kind", "what happens", "what is promised", "tests", "injected:", "survived:"]
    return {SECTION: markdown_table(columns, rows)}


if __name__ == "__main__":
    common.main(__doc__, measure, texts)
