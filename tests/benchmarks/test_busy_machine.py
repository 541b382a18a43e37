import json
import statistics
import sys
from pathlib import Path

import busy_machine
import common
import pytest


def test_saved_runs_are_within_the_limits() -> None:
    seconds = json.loads(busy_machine.SAVED.read_text())["seconds"]
    for name in list(busy_machine.COMMANDS)[:2]:
        medians = [statistics.median(seconds[name][str(num)]) for num in busy_machine.NUM_BUSY]
        for num, limit in busy_machine.LIMITS.items():
            assert medians[num] / medians[0] <= limit


@pytest.mark.usefixtures("data_dir")
def test_commands_are_timed_beside_busy_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(busy_machine.SECTION.page.read_text())
    monkeypatch.setattr(busy_machine, "SECTION", busy_machine.SECTION._replace(page=page))
    monkeypatch.setattr(busy_machine, "SAVED", tmp_path / "saved.json")
    monkeypatch.setattr(busy_machine, "NUM_ROUNDS", 2)
    nap = ["-c", "import time; time.sleep(0.2)"]
    monkeypatch.setattr(busy_machine, "COMMANDS", {"nap": nap})
    monkeypatch.setattr(sys, "argv", ["busy_machine.py"])
    common.main(None, busy_machine.measure, busy_machine.texts)
    seconds = json.loads((tmp_path / "saved.json").read_text())["seconds"]
    assert [len(seconds["nap"][num]) for num in "012"] == [2, 2, 2]
    assert min(seconds["nap"]["0"]) > 0.2
    ((section, text),) = busy_machine.texts().items()
    assert section.read() == text
    assert text.count("\n| ") == 2
