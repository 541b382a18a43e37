"""Injects every fault that a run is promised to survive, and counts the survivors.

    python benchmarks/fault_injection.py

Runs all tests with a marker `@pytest.mark.fault(kind)`, also the slow ones; one test case injects
one fault, or several in sequence. Raw counts go to `results/fault_injection.json`, the table to
docs/resume-and-faults.md. `--table` runs nothing and writes the table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from common import BENCHMARKS, DOCS, RESULTS, ROOT, Marks, save

SAVED = RESULTS / "fault_injection.json"
PAGE = DOCS / "resume-and-faults.md"
MARKS = Marks.of("faults", "fault_injection.py")
# The argument of the marker: what happens, and what is promised.
KINDS = {
    "sigkill": (
        "SIGKILL at any of twelve moments, once or three times",
        "`fit --ckpt_path last` reaches the checkpoints and curves of an uninterrupted run",
    ),
    "random_kill": (
        "SIGKILL, SIGTERM or Ctrl+C at one to four random moments, in 40 settings: validations, "
        "early ends, optimizers, precisions, callbacks",
        "`fit --ckpt_path last` reaches the checkpoints and curves of an uninterrupted run",
    ),
    "signal": (
        "Ctrl+C, SIGTERM",
        "exit code 130 or 143; checkpoints stay; one line gives the command to resume",
    ),
    "non_finite": (
        "a loss or weights that are not finite",
        "the run stops, names the step, and saves none of it",
    ),
    "disk": (
        "a full disk, a folder without write permission",
        "an error at the start where possible; existing files stay readable",
    ),
    "bad_data": (
        "data files truncated, swapped, with a flipped bit, half-written",
        "correct data or one error, never wrong images",
    ),
    "bad_mirror": (
        "a mirror that stalls, trickles, resets the connection, or serves other content",
        "the next source is tried",
    ),
    "concurrent_download": (
        "sixteen processes at once; the downloading process is killed",
        "each file is downloaded once, and every process gets it",
    ),
    "bad_checkpoint": (
        "a checkpoint that is damaged, of another program, or contains code",
        "refused in one line; none of it is run",
    ),
    "code_in_settings": (
        "a checkpoint whose hyperparameters name code",
        "no command and no function imports or calls it",
    ),
    "bad_settings": (
        "settings that are unknown, of the wrong type or out of range",
        "refused by name before any work",
    ),
    "bad_photo": (
        "decompression bombs, truncated, empty or non-image files; any file name",
        "skipped by name; the other photos are predicted",
    ),
    "dead_rank": (
        "one of two processes is killed",
        "the other reports it; the run resumes from its last epoch to the same end",
    ),
    "two_processes": (
        "two processes instead of one, by each launcher",
        "the same training up to rounding; every image is counted once",
    ),
    "endurance": ("10,000 photos; 200 epochs", "memory and open files do not grow"),
}

Counts = dict[str, dict[str, list[int]]]  # kind -> test file -> [survived, injected]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As a pytest plugin: writes the kinds of each test into the JUnit report."""
    for item in items:
        for marker in item.iter_markers("fault"):
            (kind,) = marker.args
            if kind not in KINDS:
                raise pytest.UsageError(f"{item.nodeid}: unknown kind of fault {kind!r}")
            item.user_properties.append(("fault", kind))


def measure(tests: Path) -> Counts:
    """Runs the marked tests of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", str(tests), "--numprocesses", "2", "-m", "fault"]
        command += ["-p", "fault_injection", f"--junitxml={report}"]
        environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        return count(ElementTree.parse(report))


def count(report: "ElementTree.ElementTree[Any]") -> Counts:
    """Counts the cases of a JUnit report by kind and file; a skipped case did not survive."""
    counts: Counts = {kind: {} for kind in KINDS}
    for case in report.iter("testcase"):
        file = f"{case.attrib['classname'].split('.')[-1]}.py"
        survived = not any(child.tag in ("failure", "error", "skipped") for child in case)
        for each in case.iterfind("properties/property[@name='fault']"):
            of_file = counts[each.attrib["value"]].setdefault(file, [0, 0])
            of_file[0] += survived
            of_file[1] += 1
    return counts


def table(counts: Counts) -> str:
    """One line for each kind of fault."""
    lines = ["| what happens | what is promised | tests | injected | survived |"]
    lines.append("| --- | --- | --- | ---: | ---: |")
    for kind, (fault, promise) in KINDS.items():
        files = ", ".join(f"`{file}`" for file in counts[kind])
        survived, injected = (sum(each[i] for each in counts[kind].values()) for i in (0, 1))
        lines.append(f"| {fault} | {promise} | {files} | {injected} | {survived} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the tests, saves the counts, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="run nothing, write the table only")
    if not parser.parse_args().table:
        save(SAVED, kinds=measure(ROOT / "tests"))
    MARKS.replace(PAGE, table(json.loads(SAVED.read_text())["kinds"]))


if __name__ == "__main__":
    main()
