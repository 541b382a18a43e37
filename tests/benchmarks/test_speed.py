import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning_baseline
import lower_bound
import pytest
import pytorch_baseline
import speed
from speed_tables import OURS, PYTORCH, Times

ReadEpochs = Callable[[], list[dict[str, float]]]


@pytest.fixture
def read_epochs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ReadEpochs:
    """Reads the times that a program wrote."""
    path = tmp_path / "times.json"
    monkeypatch.setenv("TIMES_FILE", str(path))
    return lambda: [
        speed.seconds_of(*pair) for pair in itertools.pairwise(json.loads(path.read_text()))
    ]


def run(program: str, seconds: list[float], peak_mib: float) -> dict[str, Any]:
    epochs = [{"train": value, "epoch": 1.1 * value} for value in seconds]
    times = {"peak_mib": peak_mib, "epochs": epochs}
    return {"program": program, "batch_size": 20, "options": []} | times


def test_ratios_are_taken_within_a_round_and_leave_out_first_epochs() -> None:
    runs = []
    for round, slow in enumerate((1, 2, 5)):  # the machine is busy in some rounds
        runs.append(run(PYTORCH, [99, 10 * slow, 10 * slow], 500.0))
        runs.append(run(OURS, [99, 4 * slow, (4 + round) * slow], 600.0))
    times = Times([*runs, run(OURS, [1, 1], 1) | {"options": ["--other"]}])
    assert times.median("train", PYTORCH) == 20
    assert times.ratios("train", PYTORCH) == pytest.approx([0.4, 0.45, 0.5])
    assert times.ratios("peak_mib", PYTORCH) == pytest.approx([1.2] * 3)


def test_epoch_lasts_until_the_next_one_unless_it_ends_before() -> None:
    parts = {"train": 5.0, "validation": 1.0}
    assert speed.seconds_of([2.0, 7.0, 8.0], [10.0]) == parts | {"epoch": 8.0}
    assert speed.seconds_of([2.0, 7.0, 8.0, 8.5], [10.0, 15.0]) == parts | {"epoch": 6.5}


def test_timer_times_each_epoch_of_a_fit(fit: Callable[..., Path], read_epochs: ReadEpochs) -> None:
    fit("--trainer.callbacks", "lightning_baseline.EpochTimer", "--trainer.max_epochs", "3")
    epochs = read_epochs()
    assert len(epochs) == 3
    for epoch in epochs:
        assert 0 < epoch["train"] + epoch["validation"] < epoch["epoch"]


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize("program", [pytorch_baseline, lightning_baseline, lower_bound])
def test_baselines_time_each_epoch(
    program: Any, data_dir: Path, read_epochs: ReadEpochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", f"--data-dir={data_dir}", "--epochs=2"])
    program.main()
    epochs = read_epochs()
    assert len(epochs) == 2
    for epoch in epochs:
        assert min(epoch.values()) > 0
        assert epoch["train"] + epoch["validation"] <= epoch["epoch"] + 0.001


def test_failed_program_ends_the_benchmark_with_its_output() -> None:
    script = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:.*True"):
        speed.run_in_terminal([sys.executable, "-c", script], ".", dict(os.environ))
