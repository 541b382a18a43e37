import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import lightning_baseline
import lower_bound
import pytest
import pytorch_baseline
import speed
import speed_tables

Times = Callable[[], dict[str, Any]]


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Times:
    """Reads the times that a program wrote."""
    path = tmp_path / "times.json"
    monkeypatch.setenv("TIMES_FILE", str(path))
    return lambda: dict(json.loads(path.read_text()))


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_speed_tables_are_those_of_the_saved_runs(page: str) -> None:
    texts = speed_tables.tables(speed_tables.Summary(json.loads(speed.SAVED.read_text())))
    path = common.ROOT / page
    assert speed_tables.MARKS.find(path) == texts[path]


def run(program: str, round: int, seconds: list[float], **kwargs: Any) -> dict[str, Any]:
    epochs = [
        {
            "train": each,
            "validation": each / 10,
            "epoch": 1.1 * each,
            "accuracy": 0.78 + index / 100,
        }
        for index, each in enumerate(seconds)
    ]
    return {
        "section": "article",
        "round": round,
        "program": program,
        "batch_size": 20,
        "train_size": 48_000,
        "options": [],
        "first_batch": 3.0,
        "peak_mib": 600.0 if program == speed_tables.OURS else 500.0,
        "epochs": epochs,
    } | kwargs


def test_ratios_are_taken_within_a_round_and_leave_out_first_epochs() -> None:
    runs = []
    for round, slow in enumerate((1, 2, 5)):  # the machine is busy in some rounds
        runs.append(run(speed_tables.PYTORCH, round, [99, 10 * slow, 10 * slow]))
        runs.append(run(speed_tables.OURS, round, [99, 4 * slow, (4 + round) * slow]))
    runs.append(run("default", 0, [2, 2, 2], section="default", batch_size=128))
    summary = speed_tables.Summary({"runs": runs})
    assert summary.median("batch size", "train", speed_tables.PYTORCH) == 20
    assert summary.ratios("train", speed_tables.PYTORCH) == pytest.approx([0.4, 0.45, 0.5])
    assert summary.ratios("peak_mib", speed_tables.PYTORCH) == pytest.approx([1.2] * 3)
    assert summary.seconds_to_accuracy() == pytest.approx([4.4])  # 78 %, then 79 %


def test_stopwatch_times_each_epoch_of_a_fit(fit: Callable[..., Path], times: Times) -> None:
    fit("--trainer.callbacks", "stopwatch.Stopwatch", "--trainer.max_epochs", "3")
    taken = times()
    assert len(taken["epochs"]) == 3
    for epoch in taken["epochs"]:
        assert 0 < epoch["train"] + epoch["validation"] < epoch["epoch"]
        assert 0 <= epoch["accuracy"] <= 1


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize(
    ("program", "options"),
    [
        (pytorch_baseline, []),
        (lightning_baseline, []),
        (lower_bound, ["--contiguous", "--bf16", "--fused", "--threads=1"]),
    ],
)
def test_baselines_time_each_epoch(
    program: Any, options: list[str], data_dir: Path, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", f"--data-dir={data_dir}", *options])
    program.main()
    taken = times()
    assert taken["first_batch"] > 1e9
    assert len(taken["epochs"]) == 2
    assert all(0 < epoch["train"] < epoch["epoch"] for epoch in taken["epochs"])
    assert all(("accuracy" in epoch) == (program is not lower_bound) for epoch in taken["epochs"])


def test_failed_program_ends_the_benchmark_with_its_output() -> None:
    script = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:.*True"):
        speed.run_in_terminal([sys.executable, "-c", script], ".", dict(os.environ))
