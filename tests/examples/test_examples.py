import re
import sys
from pathlib import Path

import lightning_cli
import minimal_lightning
import plain_pytorch
import pytest
import torch

from fmnist_lightning import ArticleCNN
from fmnist_lightning.runs.checkpoint import read_checkpoint
from fmnist_lightning.training.module import DEFAULT_OPTIMIZER


def run(example, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["example", "--epochs", "2", *options])
    example.main()


@pytest.mark.usefixtures("data_dir")
def test_plain_pytorch_trains_the_network_of_the_package_tests_and_predicts(monkeypatch, capsys):
    run(plain_pytorch, monkeypatch)
    out = capsys.readouterr().out
    val_losses = [float(loss) for loss in re.findall(r"val loss (\d+\.\d{4})\n", out)]
    assert len(val_losses) == 2
    saved = sum(loss <= min(val_losses[: i + 1]) for i, loss in enumerate(val_losses))
    assert out.count("weights saved to best.pt") == saved
    (accuracy, correct) = re.findall(r"accuracy (\d+\.\d\d) % \((\d+)/105\)", out)[0]
    assert accuracy == f"{100 * int(correct) / 105:.2f}"
    assert re.search(r"test image 9: predicted [\w/ -]+, label Sneaker\n$", out)

    theirs, ours = plain_pytorch.CNN(), ArticleCNN(sigmoid=True)
    for network in (theirs, ours):
        network.load_state_dict(torch.load("best.pt", weights_only=True))
    images = torch.rand(7, 1, 28, 28)
    assert torch.equal(theirs(images), ours(images))


@pytest.mark.usefixtures("data_dir")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_minimal_lightning_trains_and_tests_its_best_checkpoint(monkeypatch, capsys):
    run(minimal_lightning, monkeypatch, "--batch-size", "40")
    assert re.search(r"test/acc\W+0\.\d+", capsys.readouterr().out)
    (log_dir,) = Path("lightning_logs").iterdir()
    (path,) = (log_dir / "checkpoints").iterdir()
    assert list(log_dir.glob("events.*"))
    classifier = minimal_lightning.Classifier.load_from_checkpoint(path)
    assert sum(each.numel() for each in classifier.parameters()) == 11_252


@pytest.mark.usefixtures("data_dir")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_lightning_cli_trains_and_tests_its_checkpoint(monkeypatch, capsys):
    sizes = ("--data.train_size=480", "--data.val_size=120", "--trainer.accelerator=cpu")
    fit = ("fit", *sizes, "--trainer.max_steps=1", "--model.network=fmnist_lightning.MLP")
    monkeypatch.setattr(sys, "argv", ["example", *fit])
    lightning_cli.main()
    (path,) = Path("lightning_logs").rglob("*.ckpt")
    checkpoint = read_checkpoint(path)
    assert checkpoint["global_step"] == 1
    optimizer = checkpoint["hyper_parameters"]["optimizer"]
    assert optimizer["class_path"] == "torch.optim.AdamW"
    assert optimizer["init_args"].items() >= DEFAULT_OPTIMIZER.keywords.items()
    monkeypatch.setattr(sys, "argv", ["example", "test", *sizes, f"--ckpt_path={path}"])
    lightning_cli.main()
    assert re.search(r"test/acc\W+0\.\d+", capsys.readouterr().out)


def test_both_examples_split_the_images_alike(data_dir):
    data = minimal_lightning.FashionMNISTData(str(data_dir))
    data.setup("fit")
    for sets in (plain_pytorch.load_datasets(str(data_dir)), (data.train, data.val, data.test)):
        assert [len(each) for each in sets] == [480, 120, 105]


def test_examples_stand_alone():
    for example, foreign in (
        (plain_pytorch, {"fmnist_lightning", "lightning"}),
        (minimal_lightning, {"fmnist_lightning"}),
    ):
        text = Path(example.__file__).read_text()
        imports = set(re.findall(r"^(?:from|import) (\w+)", text, flags=re.M))
        assert "torch" in imports
        assert not imports & foreign
