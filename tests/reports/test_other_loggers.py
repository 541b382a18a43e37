"""Weights & Biases and MLflow, which write to the disk here, get what their interfaces can take."""

import re
from pathlib import Path

import pytest
from conftest import TINY
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, WandbLogger
from processes import start
from samples import tiny_data

from fmnist_lightning import FashionClassifier, create_trainer

FIGURES = {"training images", "confusion matrix", "reliability diagram", "feature maps"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "logger", "variable"),
    [
        ("wandb", "WandbLogger", {"WANDB_MODE": "offline"}),
        ("mlflow", "MLFlowLogger", {"MLFLOW_ALLOW_FILE_STORE": "true"}),
    ],
)
def test_logger_gets_figures(package, logger, variable, data_dir):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install -e '.[loggers]'")
    options = ("--trainer.max_epochs=2", "--trainer.logger", logger)
    process = start("fit", *TINY, *options, environment=variable, draws=True)
    assert process.wait() == 0, process.output.read_text()
    images = [re.sub(r"_\d+_\w+$", "", path.stem) for path in Path().rglob("*.png")]
    assert set(images) >= FIGURES
    assert len(images) == len(set(images))  # each once


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("base", "given"), [(MLFlowLogger, None), (WandbLogger, "mine")])
def test_resumed_fit_goes_on_with_the_run_of_its_logger(base, given, data_dir):
    # Stands for a logger whose package may not be installed.
    logger = type(base.__name__, (CSVLogger,), {"version": "first"})("logs")
    trainer = create_trainer(
        run_dir=Path("runs/a"), logger=logger, max_epochs=1, accelerator="cpu", log_every_n_steps=5
    )
    trainer.fit(FashionClassifier(), datamodule=tiny_data())
    resumed = base.__new__(base)  # whose __init__ needs its package
    resumed._run_id, resumed._wandb_init = given, {"id": given}
    create_trainer(run_dir=Path("runs/a"), logger=resumed, max_epochs=1, accelerator="cpu")
    assert (resumed._run_id if base is MLFlowLogger else resumed._wandb_init["id"]) == (
        given or "first"
    )
