"""What the README shows is true: its script runs, and its figures are those of the saved runs."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import photo

from fmnist_lightning import load_classifier

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


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
