import json
import sys
from pathlib import Path
from typing import Any

import pytest
import results
from samples import CONFIGS


def test_each_row_has_saved_runs_whose_result_is_in_its_config() -> None:
    rows = results.load()
    assert rows.keys() == set(results.NUM_SEEDS)
    for config in CONFIGS:
        lines = config.read_text().splitlines()
        assert lines[0] == f"# python -m fmnist_lightning fit --config {config.stem}"
        assert results.header(config.stem, rows[config.stem]) in lines


def saved_run(seconds: float = 9.4, accuracy: float = 0.9) -> dict[str, Any]:
    return {
        "seed": 3,
        "parameters": 11252,
        "epochs": 3,
        "num_threads": 2,
        "fit_seconds": seconds,
        "curve": [],
        "validate": {"accuracy": accuracy, "loss": 0.3, "ece": 0.01},
        "test": {"accuracy": accuracy - 0.01, "ece": accuracy - 0.895},
    }


def test_summary_has_mean_and_standard_deviation_over_the_seeds() -> None:
    runs = [saved_run(10.0, 0.90), saved_run(21.0, 0.91), saved_run(20.0, 0.92)]
    assert results.summarize("smoke", {"runs": runs}) == {
        "config": "smoke",
        "parameters:": "11,252",
        "epochs:": "3",
        "`fit`:": "17 s",
        "validation %": "91.00 ± 1.00",
        "test %": "**90.00 ± 1.00**",
        "each seed": "89.00, 90.00, 91.00",
        "ECE %:": "1.50",
        "command": "`python -m fmnist_lightning fit --config smoke`",
    }


def test_row_trains_its_seeds_and_keeps_the_checkpoint_of_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    def run_seed(*args: Any) -> dict[str, Any]:
        calls.append(args)
        return saved_run() | {"seed": args[1]}

    monkeypatch.setattr(results, "run_seed", run_seed)
    results.run_row("tiny", Path("data"), tmp_path)
    options = ["--config", "tiny"], Path("data")
    kept = [results.CHECKPOINTS / "tiny.ckpt", *[None] * 4]
    assert calls == [(options[0], seed, options[1], path) for seed, path in enumerate(kept)]
    saved = json.loads((tmp_path / "tiny.json").read_text())
    assert [run["seed"] for run in saved["runs"]] == list(range(5))


def test_experiment_trains_and_validates_but_does_not_test(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def run_seed(*args: Any, test: bool) -> dict[str, Any]:
        assert not test
        calls.append(args)
        return saved_run()

    log = tmp_path / "log.jsonl"
    monkeypatch.setattr(results, "run_seed", run_seed)
    monkeypatch.setattr(results, "EXPERIMENTS", log)
    monkeypatch.setattr(results, "write_pages", lambda: None)
    options = ["--trainer.max_epochs", "2", "--num_threads", "3"]
    argv = ["results.py", "--experiment", "tiny", "less", "--seed", "3", "--", *options]
    monkeypatch.setattr(sys, "argv", argv)
    results.main()
    assert calls == [(options, 3, data_dir)]
    (entry,) = map(json.loads, log.read_text().splitlines())
    row = "| less, seed 3 | 11,252 | 3 | 9 (2) | 90.00 | 0.3000 | 1.00 |"
    assert row in results.experiment_tables([entry])
