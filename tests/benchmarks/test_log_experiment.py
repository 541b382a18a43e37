import sys
from pathlib import Path
from typing import Any

import log_experiment
import pytest
import results


def test_tables_are_those_of_the_saved_log() -> None:
    assert log_experiment.MARKS.find(log_experiment.PAGE) == log_experiment.tables(
        log_experiment.load()
    )


def test_experiment_trains_and_validates_but_does_not_test(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def run_seed(*args: Any) -> dict[str, Any]:
        calls.append(args)
        metrics = {"accuracy": 0.9, "loss": 0.3, "ece": 0.01}
        return {
            "seed": 3, "epochs": 2, "parameters": 7, "fit_seconds": 9.4, "curve": [],
            "num_threads": 3, "validate": metrics,
        }  # fmt: skip

    monkeypatch.setattr(results, "run_seed", run_seed)
    options = ["--trainer.max_epochs", "2", "--num_threads", "3"]
    entry = log_experiment.measure("tiny", "less", options, 3, Path("data"))
    assert calls == [(options, 3, data_dir, ["validate"])]
    assert "| less, seed 3 | 7 | 2 | 9 (3) | 90.00 | 0.3000 | 1.00 |" in log_experiment.tables(
        [entry]
    )


def test_missing_options_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["log_experiment.py", "tiny", "less"])
    with pytest.raises(SystemExit, match="2"):
        log_experiment.main()
    assert "or --table" in capsys.readouterr().err
