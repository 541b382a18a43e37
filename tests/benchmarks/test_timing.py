import os
import runpy
import sys
import time
from pathlib import Path

import pytest
import timing
from conftest import TINY
from timing import PACKAGE, Times


def saved_run(program, seconds, peak_mib):
    epochs = [{"train": value, "epoch": 1.1 * value} for value in seconds]
    times = {"peak_mib": peak_mib, "epochs": epochs}
    return {"program": program, "batch_size": 20, "options": []} | times


def test_ratios_are_taken_within_a_round_and_leave_out_first_epochs():
    runs = []
    for round, slow in enumerate((1, 2, 5)):  # the machine is busy in some rounds
        runs.append(saved_run("other", [99, 10 * slow, 10 * slow], 500.0))
        runs.append(saved_run(PACKAGE, [99, 4 * slow, (4 + round) * slow], 600.0))
    times = Times([*runs, saved_run(PACKAGE, [1, 1], 1) | {"options": ["--other"]}])
    assert times.median("train", "other") == 20
    assert times.ratios("train", "other") == pytest.approx([0.4, 0.45, 0.5])
    assert times.ratios("peak_mib", "other") == pytest.approx([1.2] * 3)


def test_epoch_lasts_until_the_next_one_unless_it_ends_before():
    parts = {"train": 5.0, "validation": 1.0}
    assert timing.seconds_of([2.0, 7.0, 8.0], [10.0]) == parts | {"epoch": 8.0}
    assert timing.seconds_of([2.0, 7.0, 8.0, 8.5], [10.0, 15.0]) == parts | {"epoch": 6.5}


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize(
    "program",
    [" ".join([PACKAGE, *TINY]), "pytorch_baseline", "lightning_baseline", "lower_bound"],
)
def test_epochs_of_each_program_are_timed(program, run, monkeypatch):
    def run_in_process(command, folder, environment):
        monkeypatch.setenv("TIMES_FILE", environment["TIMES_FILE"])
        if "-m" in command:
            code, _, err = run(*command[3:])
            assert code == 0, err
        else:
            monkeypatch.setattr(sys, "argv", command[1:])
            runpy.run_path(command[1], run_name="__main__")
        return 2048

    monkeypatch.setattr(timing, "run_in_terminal", run_in_process)
    start = time.perf_counter()
    measured = timing.run_program(program, 50, 3)
    elapsed = time.perf_counter() - start
    assert measured["peak_mib"] == 2.0
    epochs = measured["epochs"]
    assert len(epochs) == 3
    for epoch in epochs:
        assert min(epoch.values()) > 0
        assert epoch["train"] + epoch["validation"] <= epoch["epoch"] + 0.001
    assert 0 < measured["first_batch"] < elapsed - sum(epoch["epoch"] for epoch in epochs)


def test_failed_program_ends_the_benchmark_with_its_output():
    script = "import sys; print(sys.stdout.isatty()); sys.exit(3)"
    with pytest.raises(SystemExit, match=r"(?s)ended with 3:.*True"):
        timing.run_in_terminal([sys.executable, "-c", script], Path(), dict(os.environ))
