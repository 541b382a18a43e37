import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning_baseline
import lower_bound
import pytest
import pytorch_baseline
import speed
from conftest import TINY, Run
from speed_tables import PACKAGE, PYTORCH, Times


def saved_run(program: str, seconds: list[float], peak_mib: float) -> dict[str, Any]:
    epochs = [{"train": value, "epoch": 1.1 * value} for value in seconds]
    times = {"peak_mib": peak_mib, "epochs": epochs}
    return {"program": program, "batch_size": 20, "options": []} | times


def test_ratios_are_taken_within_a_round_and_leave_out_first_epochs() -> None:
    runs = []
    for round, slow in enumerate((1, 2, 5)):  # the machine is busy in some rounds
        runs.append(saved_run(PYTORCH, [99, 10 * slow, 10 * slow], 500.0))
        runs.append(saved_run(PACKAGE, [99, 4 * slow, (4 + round) * slow], 600.0))
    times = Times([*runs, saved_run(PACKAGE, [1, 1], 1) | {"options": ["--other"]}])
    assert times.median("train", PYTORCH) == 20
    assert times.ratios("train", PYTORCH) == pytest.approx([0.4, 0.45, 0.5])
    assert times.ratios("peak_mib", PYTORCH) == pytest.approx([1.2] * 3)


def test_epoch_lasts_until_the_next_one_unless_it_ends_before() -> None:
    parts = {"train": 5.0, "validation": 1.0}
    assert speed.seconds_of([2.0, 7.0, 8.0], [10.0]) == parts | {"epoch": 8.0}
    assert speed.seconds_of([2.0, 7.0, 8.0, 8.5], [10.0, 15.0]) == parts | {"epoch": 6.5}


def test_command_line_is_measured_with_the_options(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in_process(command: list[str], folder: str, environment: dict[str, str]) -> int:
        monkeypatch.setenv("TIMES_FILE", environment["TIMES_FILE"])
        code, _, err = run(*command[3:])
        assert code == 0, err
        return 2048

    monkeypatch.setattr(speed, "run_in_terminal", run_in_process)
    measured = speed.run_program(" ".join([PACKAGE, *TINY]), data_dir, 50, 3)
    assert measured["options"] == TINY
    assert measured["peak_mib"] == 2.0
    assert measured["first_batch"] > 0
    assert len(measured["epochs"]) == 3
    for epoch in measured["epochs"]:
        assert 0 < epoch["train"] + epoch["validation"] < epoch["epoch"]


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize("program", [pytorch_baseline, lightning_baseline, lower_bound])
def test_baselines_time_each_epoch(
    program: Any, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "times.json"
    monkeypatch.setenv("TIMES_FILE", str(path))
    monkeypatch.setattr(sys, "argv", ["program", f"--data-dir={data_dir}", "--epochs=2"])
    program.main()
    epochs = [speed.seconds_of(*pair) for pair in itertools.pairwise(json.loads(path.read_text()))]
    assert len(epochs) == 2
    for epoch in epochs:
        assert min(epoch.values()) > 0
        assert epoch["train"] + epoch["validation"] <= epoch["epoch"] + 0.001


def test_failed_program_ends_the_benchmark_with_its_output() -> None:
    script = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:.*True"):
        speed.run_in_terminal([sys.executable, "-c", script], ".", dict(os.environ))
