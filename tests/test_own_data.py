"""Data modules of the user's own, on the command line and in scripts."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, seed_everything
from samples import Recorder
from torch.utils.data import DataLoader, Subset, TensorDataset

from fmnist_lightning import (
    MLP,
    FashionClassifier,
    RandomAugmentation,
    create_trainer,
    load_classifier,
)

MODULE = """
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Subset, TensorDataset

class ThreeClasses(LightningDataModule):
    classes = ("top", "shoe", "bag")

    def __init__(self, num_images: int = 60, first_label: int = 0, odd: int = 0) -> None:
        super().__init__()
        labels = torch.arange(num_images) % 3
        images = torch.zeros(num_images, 28, 28, dtype=torch.uint8)
        for image, label in zip(images, labels.tolist()):
            image[9 * label :][:9] = 255
        labels += first_label
        labels[-1] += odd
        self.dataset = TensorDataset(images, labels)

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=10, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.dataset, batch_size=25)

    test_dataloader = predict_dataloader = val_dataloader
"""
FIXED = """
from collections.abc import Callable
from torch import nn

def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))

class Net(nn.Sequential):
    def __init__(
        self,
        act: type[nn.Module] = nn.ReLU,
        last: Callable[[], nn.Module] = nn.Identity,
        num_classes: int = 10,
    ) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 8), act(), nn.Linear(8, num_classes), last())

class TenOutputs(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""
DATA = ("--data", "three_classes.ThreeClasses")
TRUST = ("--trust", "three_classes.ThreeClasses")
NETWORK = ("--model.network", "fmnist_lightning.MLP")
FIT = ("fit", *DATA, "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "2")


@pytest.fixture(autouse=True)
def _module():
    """``three_classes.py`` in the current folder, imported anew by each test."""
    Path("three_classes.py").write_text(FIXED + MODULE)
    yield
    sys.modules.pop("three_classes", None)


def test_fit_test_and_predict(run):
    code, out, err = run(*FIT, *NETWORK, "--data.num_images", "45")
    assert code == 0, err
    (run_dir,) = Path("runs").iterdir()
    found = re.search(r"^Next: +python -m fmnist_lightning (test .*)$", out, re.MULTILINE)
    assert found
    code, out, err = run(*found[1].split())
    assert code == 0, err
    summary = json.loads((run_dir / "test.json").read_text())
    assert list(summary["classes"]) == ["top", "shoe", "bag"]
    assert summary["total"] == 45
    assert summary["accuracy"] == 1
    assert load_classifier("best.ckpt").classes == ("top", "shoe", "bag")

    code, _, err = run("predict", "--ckpt_path", "best.ckpt", *TRUST, "--data.num_images", "7")
    assert code == 0, err
    with (run_dir / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["index", "label", "prediction", "top", "shoe", "bag"]
    assert [row["label"] for row in rows] == ["top", "shoe", "bag", "top", "shoe", "bag", "top"]
    assert [row["prediction"] for row in rows] == [row["label"] for row in rows]
    # Of floats, as torchvision's ToTensor gives.
    module = MODULE.replace("TensorDataset(images, ", "TensorDataset(images[:, None] / 255, ")
    Path("three_classes.py").write_text(FIXED + module)
    del sys.modules["three_classes"]
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", *TRUST, "--index", "1")
    assert code == 0, err
    assert "test image 1: predicted shoe" in out
    code, _, err = run("test", "--ckpt_path", "best.ckpt", *TRUST, "--data.first_label=1")
    assert code == 1
    assert "labels must be 0 to 2 for 3 classes, not 1 to 3" in err


def loader(images, labels=None):
    labels = torch.arange(len(images)) % 3 if labels is None else labels
    return DataLoader(TensorDataset(images, labels), batch_size=16)


class ClassesDataset(Subset):
    """A dataset with class names, as those of torchvision."""

    classes = ("c", "b", "a")

    def __init__(self, dataset):
        super().__init__(dataset, range(len(dataset)))


def losses(loader):
    """Of the steps of an epoch, with all that ``create_trainer`` adds."""
    seed_everything(0)
    recorder = Recorder()
    trainer = create_trainer(max_epochs=1, logger=False, callbacks=recorder)
    classifier = FashionClassifier(MLP, augmentation=RandomAugmentation, classes=("a", "b", "c"))
    trainer.fit(classifier, loader, loader)
    return recorder.losses


def test_images_of_common_types_train_alike():
    images = torch.randint(0, 256, (48, 28, 28), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    expected = losses(loader(images))
    channel = images.unsqueeze(1)  # as torchvision's ToTensor gives
    for other in (images / 255, channel, channel / 255, channel.double() / 255):
        assert losses(loader(other)) == expected
    classifier = FashionClassifier(MLP).eval()
    torch.testing.assert_close(classifier(images / 255), classifier(images))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(16, 28, 28) - 0.5, None, r"without normalization, .* -0.5 to -0.5"),
        (torch.zeros(16, 28, 28) + 255, None, r"float from 0 to 1 .* 255.0 to 255.0"),
        (torch.zeros(16, 28, 28).int(), None, r"images must be uint8, .* has torch.int32"),
        (torch.zeros(16, 3, 28, 28), None, r"a batch has torch.float32, shape \(16, 3, 28, 28\)"),
        (torch.zeros(16, 32, 32), None, r"a batch has torch.float32, shape \(16, 32, 32\)"),
        (torch.zeros(16, 28, 28), torch.zeros(16).int(), r"labels must be int64, .* torch.int32"),
        (torch.zeros(16, 28, 28), torch.eye(3)[:1].repeat(16, 1), r"labels must .* \(16, 3\), 0"),
    ],
    ids=["normalized", "0 to 255", "integers", "colors", "size", "int32", "one-hot"],
)
def test_other_batches_are_refused_in_the_first_step(images, labels, message):
    with pytest.raises(ValueError, match=message):
        losses(loader(images, labels))


def test_other_batches_than_pairs_of_tensors_are_refused():
    images, labels = torch.zeros(16, 28, 28), torch.arange(16) % 3
    for dataset in (TensorDataset(images), TensorDataset(images, labels, labels), images):
        batches = DataLoader(dataset, batch_size=8)
        with pytest.raises(
            ValueError, match="a batch must be a pair of tensors, images and labels"
        ):
            losses(batches)
    late = labels.where(torch.arange(16) < 15, -100)
    with pytest.raises(ValueError, match="labels must be 0 to 2 for 3 classes, not -100 to 2"):
        losses(loader(images, late))
    with pytest.raises(ValueError, match="two classes have the same name: a, b, a"):
        FashionClassifier(classes=("a", "b", "a"))


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_classes_of_data_and_module_must_agree_in_scripts():
    dataset = loader(torch.zeros(16, 28, 28)).dataset
    data = LightningDataModule.from_datasets(dataset, dataset, num_workers=0)
    data.classes = ("a", "b", "c")
    trainer = create_trainer(max_epochs=1, logger=False)
    with pytest.raises(ValueError, match=r"has the classes a, b, c, and the network has T-shirt"):
        trainer.fit(FashionClassifier(), datamodule=data)
    names = DataLoader(ClassesDataset(dataset), batch_size=8)
    part = DataLoader(Subset(names.dataset, range(9)), batch_size=8)
    for loaders in ((names, names), (loader(torch.zeros(16, 28, 28)), names), (part, part)):
        trainer = create_trainer(max_epochs=1, logger=False)
        with pytest.raises(
            ValueError, match=r"has the classes c, b, a, and the network has a, b, c"
        ):
            trainer.fit(FashionClassifier(MLP, classes=("a", "b", "c")), *loaders)
    with pytest.raises(ValueError, match=r"has the classes c, b, a, and the network has a, b, c"):
        create_trainer(logger=False).test(FashionClassifier(MLP, classes=("a", "b", "c")), names)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", ()),
        ("Net", ("--model.network.act=torch.nn.GELU", "--model.network.last=torch.nn.Hardtanh")),
    ],
)
def test_network_of_a_function_or_with_classes_as_arguments(name, options, run):
    path = f"three_classes.{name}"
    constant = ("--model.lr_schedule", "constant")
    code, out, err = run(*FIT, "--model.network", path, *options, *constant)
    assert code == 0, err
    (test,) = re.findall(r"Next: +python -m fmnist_lightning (test .*)", out)
    assert {path, "three_classes.ThreeClasses"} == set(test.partition(" --trust ")[2].split())
    assert run(*test.split())[0] == 0
    assert run("test", "--ckpt_path", "best.ckpt", "--trust", path, *TRUST)[0] == 0
    with pytest.raises(ValueError, match=f"names the class {path}"):
        load_classifier("best.ckpt")
    network = load_classifier("best.ckpt", trusted=[path]).network
    assert ("GELU" in repr(network)) == ("Hardtanh" in repr(network)) == bool(options)
    code, out, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert code == 0, err
    assert re.findall(r"epoch +(\d)/4", out) == ["4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--model.network", "three_classes.TenOutputs"),
            "the network returns shape (10, 10) for 3 classes; expected (10, 3). Add an argument "
            "num_classes to the network: it is filled in",
        ),
        ((*NETWORK, "--data.first_label=-1"), "labels must be 0 to 2 for 3 classes, not -1 to 1"),
        ((*NETWORK, "--data.odd=5"), "Target 7 is out of bounds"),  # not in the first batch
    ],
    ids=["outputs", "negative labels", "a single label"],
)
def test_network_and_labels_must_fit_the_classes(options, message, run):
    code, _, err = run(*FIT, *options)
    assert code == 1
    (error,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert message in error
    assert "Traceback" not in err
