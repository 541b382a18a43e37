"""What the README shows is true: its script runs, and its figures are those of the saved runs."""

import csv
import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from samples import photo

from fmnist_lightning import load_classifier

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_that_of_the_saved_runs(results: ModuleType) -> None:
    begin, end = results.MARKS
    shown = README.split(begin)[1].split(end)[0]
    assert shown == results.table(results.load())


def test_each_config_says_what_its_saved_runs_gave(results: ModuleType) -> None:
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert configs
    rows = results.load()
    for config in configs:
        if config.stem == "pretrained":  # needs weights that must be downloaded
            assert "no % test accuracy is claimed" in config.read_text()
            continue
        assert results.header(rows[config.stem]) in config.read_text().splitlines()


def test_accuracies_by_shift_are_those_saved() -> None:
    shown = README.split("<!-- shifts:")[1].split("<!-- end of shifts -->")[0].splitlines()[1:]
    with (ROOT / "benchmarks" / "results" / "shifts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    assert shown[0] == f"| pixels | {' | '.join(networks)} |"
    assert len(shown) == 2 + 11
    for by, line in enumerate(shown[2:]):
        means = [
            sum(float(row[str(by)]) for row in rows if row["network"] == name) / 4
            for name in networks
        ]
        assert line == f"| {by} | {' | '.join(f'{100 * mean:.2f}' for mean in means)} |"


def test_the_table_counts_right(results: ModuleType) -> None:
    runs = [
        {
            "parameters": 11252,
            "epochs": 3,
            "fit_seconds": seconds,
            "validate": {"accuracy": accuracy},
            "test": {"accuracy": accuracy - 0.01, "ece": accuracy - 0.895},
        }
        for seconds, accuracy in ((10.0, 0.90), (21.0, 0.91), (20.0, 0.92))
    ]
    row = results.compute_summary({"runs": runs})
    assert row["seconds"] == "17 s"
    assert row["validate"] == "91.00 ± 1.00"
    assert row["test"] == "90.00 ± 1.00"
    assert row["ece"] == "1.50"
    assert row["test_seeds"] == "89.00, 90.00, 91.00"


def test_the_lines_that_use_it_as_a_library(
    fit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fit()
    for name in ("jacket.jpg", "shoes.png"):
        photo().save(name)
    capsys.readouterr()
    exec(compile(SCRIPTS[0], "README.md", "exec"), {})
    answers = load_classifier("best.ckpt").predict(["jacket.jpg", "shoes.png"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{a.label} {a.probability} {a.probabilities['Sneaker']}" for a in answers]


@pytest.mark.usefixtures("data_dir")
def test_the_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, script = SCRIPTS
    # The tiny data set is not large enough for the usual split, and one picture is found quickly.
    tiny = script.replace("batch_size=256", "batch_size=50, train_size=480, val_size=120")
    assert tiny != script
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
        exec(compile(tiny, "README.md", "exec"), {"__name__": "script"})
    out = capsys.readouterr().out
    answers = re.findall(r"'[^']+'", out.splitlines()[-1])
    assert len(answers) == 5
    assert "test/acc" in out
