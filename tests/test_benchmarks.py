"""The benchmarks run, count right, and the pages show what they saved."""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import photo

from fmnist_lightning import load_classifier

ROOT = Path(__file__).parent.parent
HERE = ROOT / "benchmarks"
MODULES = tuple(path.stem for path in HERE.glob("*.py"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(HERE)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Reads what a stopwatch wrote."""
    path = tmp_path / "times.json"
    monkeypatch.setenv("STOPWATCH", str(path))
    return lambda: dict(json.loads(path.read_text()))


def shown(page: Path, marks: tuple[str, str]) -> str:
    """What stands between two marks of a page."""
    return page.read_text().split(marks[0])[1].split(marks[1])[0]


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_the_speed_shown_is_that_of_the_saved_runs(page: str) -> None:
    speed = importlib.import_module("speed")
    text = speed.tables(speed.Summary(json.loads(speed.SAVED.read_text())))[ROOT / page]
    assert shown(ROOT / page, speed.TABLE) == text


def test_the_search_shown_is_the_saved_log() -> None:
    search = importlib.import_module("search")
    assert shown(search.PAGE, search.MARKS) == search.table(search.load())


def test_a_search_trains_validates_and_leaves_the_test_set_alone(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, search = (importlib.import_module(name) for name in ("results", "search"))
    asked: dict[str, Any] = {}

    def run_seed(options: list[str], seed: int, data: Path, stages: list[str]) -> dict[str, Any]:
        asked.update(options=options, seed=seed, data=data, stages=stages)
        figures = {"accuracy": 0.9, "loss": 0.3, "ece": 0.01}
        return {
            "seed": seed, "epochs": 2, "parameters": 7, "fit_seconds": 9.4, "curve": [],
            "validate": figures,
        }  # fmt: skip

    monkeypatch.setattr(results, "run_seed", run_seed)
    tried = search.measure("tiny", "less", ["--trainer.max_epochs", "2"], 3, Path("data"))
    assert asked["stages"] == ["validate"]
    assert asked["data"] == data_dir
    assert "| less, seed 3 | 7 | 2 | 9 (2) | 90.00 | 0.3000 | 1.00 |" in search.table(
        [tried | {"threads": 2}]
    )


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        ("search", ["tiny", "less"], "or --report"),
    ],
)
def test_options_that_will_not_do(
    program: str,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{program}.py", *options])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(program).main()
    assert message in capsys.readouterr().err


def run(contestant: str, round: int, seconds: list[float], **kwargs: Any) -> dict[str, Any]:
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
        "contestant": contestant,
        "batch_size": 20,
        "train_size": 48_000,
        "options": [],
        "first_batch": 3.0,
        "peak_mib": 500.0 if contestant == "plain" else 600.0,
        "epochs": epochs,
    } | kwargs


def test_ratios_are_medians_of_the_rounds_without_first_epochs() -> None:
    speed = importlib.import_module("speed")
    runs = []
    for round, slow in enumerate((1, 2, 5)):  # a machine that is busy in some rounds
        runs.append(run("plain", round, [99, 10 * slow, 10 * slow]))
        runs.append(run("fmnist_lightning", round, [99, 4 * slow, (4 + round) * slow]))
    runs.append(run("default", 0, [2, 2, 2], section="default", batch_size=128))
    summary = speed.Summary({"runs": runs})
    assert summary.median("batch size", "train", "plain") == 20
    assert summary.ratio("train", "fmnist_lightning", "plain") == pytest.approx(0.45)
    assert summary.ratio("peak_mib", "fmnist_lightning", "plain") == pytest.approx(1.2)
    assert summary.seconds_to_accuracy() == pytest.approx(4.4)  # 78 %, then 79 %


def test_stopwatch(fit: Callable[..., Path], stopped: Callable[[], dict[str, Any]]) -> None:
    fit("--trainer.callbacks", "stopwatch.Stopwatch", "--trainer.max_epochs", "3")
    taken = stopped()
    assert len(taken["epochs"]) == 3
    for epoch in taken["epochs"]:
        assert 0 < epoch["train"] + epoch["validation"] < epoch["epoch"]
        assert 0 <= epoch["accuracy"] <= 1


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.parametrize("contestant", ["plain", "textbook", "floor"])
def test_contestants(
    contestant: str,
    data_dir: Path,
    stopped: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--train-size=480", "--val-size=120", "--epochs=2", f"--data-dir={data_dir}"]
    if contestant == "plain":
        options.append("--accuracy")
    if contestant == "floor":
        options += ["--contiguous", "--bf16", "--fused", "--threads=1"]
    monkeypatch.setattr(sys, "argv", [f"{contestant}.py", *options])
    importlib.import_module(contestant).main()
    taken = stopped()
    assert len(taken["epochs"]) == 2
    assert all(0 < epoch["train"] < epoch["epoch"] for epoch in taken["epochs"])
    assert all(("accuracy" in epoch) == (contestant != "floor") for epoch in taken["epochs"])


def test_photos_shown_are_those_measured() -> None:
    photos = importlib.import_module("photos")
    saved = json.loads(photos.SAVED.read_text())
    assert [(row["network"], row["part"]) for row in saved["rows"]] == [
        (network, part) for network in ("photos", "photos-without") for part in photos.PARTS
    ]
    assert shown(ROOT / "README.md", photos.MARKS) == photos.table(saved["rows"])


def test_photos_are_split_by_their_bytes_and_counted(fit: Callable[..., Path]) -> None:
    photos = importlib.import_module("photos")
    for number, folder in enumerate(("dress", "shoes") * 8):
        Path("mine", folder).mkdir(parents=True, exist_ok=True)
        photo(ground=f"#{number:02x}b090").save(f"mine/{folder}/{number}.png")
    Path("mine", "other").mkdir()
    photo().save("mine/other/0.png")  # of no class

    parts = photos.split(Path("mine"))
    for part, paths in parts.items():
        assert paths
        for path in paths:
            number = int.from_bytes(hashlib.sha256(path.read_bytes()).digest(), "big")
            assert (number % 3 == 0) == (part == "held out")
    assert sum(map(len, parts.values())) == 16

    fit()
    right = photos.measure(Path("best.ckpt"), parts["development"])
    answers = load_classifier("best.ckpt").predict(parts["development"])
    for folder, classes in (("dress", ["Dress"]), ("shoes", ["Sandal", "Sneaker", "Ankle boot"])):
        mine = [
            answer.label in classes
            for answer, path in zip(answers, parts["development"], strict=True)
            if path.parent.name == folder
        ]
        assert right[folder] == [sum(mine), len(mine)]
    rows = [{"network": "n", "part": "held out", "right": {"dress": [1, 4], "shoes": [3, 4]}}]
    (*_, line) = photos.table(rows).splitlines()
    assert line.startswith("| n | 8 held out | **50.0** ± ")
    assert line.endswith("| 1/4 | 3/4 |")


def test_faults_shown_are_those_injected() -> None:
    faults = importlib.import_module("faults")
    cases = json.loads(faults.SAVED.read_text())["cases"]
    assert shown(ROOT / "README.md", faults.MARKS) == faults.table(cases)
    for name, (survived, injected) in cases.items():
        file, function = name.split(".")
        assert f"\ndef {function}(" in next((ROOT / "tests").rglob(f"{file}.py")).read_text()
        assert survived == injected > 0, name
