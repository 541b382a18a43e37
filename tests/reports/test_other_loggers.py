"""Weights & Biases and MLflow, which write to the disk here, get what their interfaces can take."""

import re
from pathlib import Path

import pytest
from conftest import TINY
from processes import start

FIGURES = {"training images", "confusion matrix", "reliability diagram", "feature maps"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "logger", "variable"),
    [
        ("wandb", "WandbLogger", {"WANDB_MODE": "offline"}),
        ("mlflow", "MLFlowLogger", {"MLFLOW_ALLOW_FILE_STORE": "true"}),
    ],
)
def test_logger_gets_figures(
    package: str, logger: str, variable: dict[str, str], data_dir: Path
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[loggers]'")
    options = ("--trainer.max_epochs=2", "--trainer.logger", logger)
    process = start("fit", *TINY, *options, environment=variable, draws=True)
    assert process.wait() == 0, process.output.read_text()
    images = [re.sub(r"_\d+_\w+$", "", path.stem) for path in Path().rglob("*.png")]
    assert set(images) >= FIGURES
    assert len(images) == len(set(images))  # each once
