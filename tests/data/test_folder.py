"""Own images: folders and IDX files, and what is done with those that are odd."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmnist_lightning import (
    MLP,
    FashionClassifier,
    ImageFolderDataModule,
    create_trainer,
    load_classifier,
)
from fmnist_lightning.data.download import DataError
from fmnist_lightning.photos import predict_images
from fmnist_lightning.runs.checkpoint import read_checkpoint

CLASSES = ("dark", "light", "mixed")
FIT = ("fit", "--data", "ImageFolderDataModule", "--data.data_dir", "my_images")
CONSTANT = ("--trainer.max_epochs=2", "--model.lr_schedule=constant")


def write_images(split, num, classes=CLASSES):
    """Images of one gray value per class, with noise."""
    generator = np.random.default_rng(len(split))
    for label, name in enumerate(classes):
        folder = Path("my_images", split, name)
        folder.mkdir(parents=True)
        for index in range(num):
            pixels = 80 * label + generator.integers(0, 60, (20, 30, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def images():
    write_images("train", 20)
    write_images("test", 4)


@pytest.mark.usefixtures("images")
def test_classes_split_and_order():
    data = ImageFolderDataModule("my_images")
    assert data.classes == list(CLASSES)
    data.setup("fit")
    data.setup("test")
    assert len(data.train_dataset) + len(data.val_dataset) == 60
    assert 4 <= len(data.val_dataset) <= 20
    assert data.test_dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    means = data.test_dataset.images.float().mean(dim=(1, 2))
    assert torch.equal((means / 80).long(), data.test_dataset.labels)
    assert data.test_files[0] == "dark/0.png"


def test_folder_of_validation_images_whatever_its_name():
    for name, num in (("Training", 20), ("valid", 2), ("TEST", 4)):
        write_images(name, num)
    data = ImageFolderDataModule("my_images")
    data.setup("fit")
    data.setup("test")
    datasets = data.train_dataset, data.val_dataset, data.test_dataset
    assert [len(dataset) for dataset in datasets] == [60, 6, 12]
    write_images("validation", 1)
    with pytest.raises(DataError, match=r"my_images has .* and .*, which mean the same"):
        ImageFolderDataModule("my_images").setup("fit")


@pytest.mark.usefixtures("images")
def test_every_image_counts_and_other_files_are_named(capsys):
    shutil.rmtree("my_images/test")
    for name in ("train/.ipynb_checkpoints", "train/__MACOSX", "train/@eaDir", "train/dark/deep"):
        Path("my_images", name).mkdir()
        shutil.copy("my_images/train/light/0.png", Path("my_images", name, "1.png"))
    dark = Path("my_images/train/dark")
    for name in ("2.jfif", "3.gif", "4.avif", "5", "._6.png"):
        image = Image.new("L", (30, 30), 10 + len(name))
        image.save(dark / name, format={"5": "PNG"}.get(name[0], {".jfif": "JPEG"}.get(name[1:])))
    (dark / "labels.csv").write_text("a,b")
    os.mkfifo(dark / "pipe.png")
    Path("my_images/train/loose.png").touch()
    data = ImageFolderDataModule("my_images")
    assert data.classes == list(CLASSES)
    data.setup("fit")
    assert len(data.train_dataset) + len(data.val_dataset) == 65
    expected = "Left out 3 files of my_images/train, no images of a class: loose.png, dark/"
    assert expected in capsys.readouterr().out


@pytest.mark.usefixtures("images")
def test_all_damaged_images_are_named_at_once():
    for name in ("dark/3.png", "light/3.png"):
        path = Path("my_images/train", name)
        path.write_bytes(path.read_bytes()[:60])
    Path("my_images/train/mixed/empty.jpg").touch()
    with pytest.raises(DataError, match=r"cannot read 3 images:(\n  my_images/train/.*){3}$"):
        ImageFolderDataModule("my_images").setup("fit")


@pytest.mark.usefixtures("images")
def test_other_layouts_are_described(tmp_path):
    def message(folder, stage="fit"):
        with pytest.raises(DataError) as caught:
            ImageFolderDataModule(folder).setup(stage)
        return str(caught.value)

    assert f"there is no folder {tmp_path}/nowhere" in message("nowhere")
    expected = "my_images/train has no train images, but dark/, light/, mixed/; expected images of "
    assert expected in message("my_images/train")
    Path("deep/train").mkdir(parents=True)
    shutil.copytree("my_images/train", "deep/train/all")
    assert "deep has only one class, all, but train/; expected images of two or" in message("deep")
    shutil.rmtree("my_images/test")
    assert "my_images has no test images, but train/; expected" in message("my_images", "test")
    Path("my_images/train/empty").mkdir()
    data = ImageFolderDataModule("my_images")
    data.setup("fit")
    with pytest.raises(DataError, match="there is no training image of empty: add some"):
        data.train_dataloader()


@pytest.mark.usefixtures("images")
def test_class_names_of_linux_and_macos_are_the_same():
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        shutil.copytree("my_images/train/dark", f"my_images/{split}/{name}")
    data = ImageFolderDataModule("my_images")
    assert data.classes == ["caf\u00e9", *CLASSES]
    data.setup("test")
    assert data.test_dataset.labels.bincount().tolist() == [20, 4, 4, 4]


def test_termination_is_heard_while_images_are_read():
    for name in ("dark", "light"):
        Path("my_images/train", name).mkdir(parents=True)
        image = Image.effect_noise((1500, 1500), 50)
        image.save(f"my_images/train/{name}/0.png")
        for index in range(1, 120):
            os.link(f"my_images/train/{name}/0.png", f"my_images/train/{name}/{index}.png")
    process = subprocess.Popen([sys.executable, "-m", "fmnist_lightning", *FIT])
    while not list(Path("runs").glob("*")) and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert time.monotonic() - start < 4  # all images take longer


@pytest.mark.usefixtures("images")
def test_labels_are_matched_by_name(run, capsys):
    code, out, err = run(*FIT, *CONSTANT)
    assert code == 0, err
    assert re.search(r"\d\d training and \d+ validation images, 3 classes: dark, light, mixed", out)
    assert "An epoch is fewer than 5 steps: a --data.batch_size below 128 may train better" in out
    accuracy = re.search(r"^test accuracy .*", run("test", "--ckpt_path", "best.ckpt")[1], re.M)
    assert accuracy
    train = Path("my_images/train")
    # `test` needs no `train`, and classes without images are allowed.
    train.rename("train")
    shutil.rmtree("my_images/test/light")
    code, out, err = run("test", "--ckpt_path", "best.ckpt")
    assert code == 0, err
    assert "There is no test image of light" in out
    assert "(8/8)" in out or "/8)" in out
    Path("train").rename(train)
    # A class of another name sorts differently, and is refused by each command that uses labels.
    (train / "dark").rename(train / "zebra")
    Path("my_images/test/dark").rename("my_images/test/zebra")
    for command in ("test", "predict", "validate", "fit"):
        code, _, err = run(command, "--ckpt_path", "last")
        assert code == 1
        assert "the network has dark, light, mixed: it does not know zebra" in err
    # Fashion-MNIST has no class in common.
    for command in ("test", "predict"):
        code, _, err = run(command, "--ckpt_path", "best.ckpt", "--data", "FashionMNISTDataModule")
        assert code == 1
        assert "the data has the classes T-shirt/top, " in err


@pytest.mark.usefixtures("images")
def test_new_images_are_prepared_as_those_of_training(run):
    """Of all sizes, 16 bits, or transparent: by every command and function."""
    folder = Path("my_images/test/dark")
    Image.fromarray(np.full((40, 20), 20 * 256, np.uint16)).save(folder / "16.png")
    Image.new("RGBA", (50, 50), (255, 255, 255, 0)).save(folder / "clear.png")
    Image.new("L", (28, 28), 30).save(folder / "small.png")
    code, _, err = run(*FIT, *CONSTANT)
    assert code == 0, err
    assert run("predict", "--ckpt_path", "best.ckpt")[0] == 0
    (path,) = Path("runs").glob("*/predictions.csv")
    with path.open() as stream:
        expected = {row["file"]: row for row in csv.DictReader(stream)}
    assert len(expected) == 15
    files = sorted(Path("my_images/test").rglob("*.png"))
    for file, prediction in zip(
        files, predict_images(load_classifier("best.ckpt"), files), strict=True
    ):
        row = expected[str(file.relative_to("my_images/test"))]
        assert prediction.label == row["prediction"]
        assert prediction.confidence == pytest.approx(float(row[prediction.label]), abs=1e-5)
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "my_images/test")
    assert code == 0, err
    assert "not trained for photos" not in out
    (path,) = Path("runs").glob("*/photos/*/photos.csv")
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        name = row["file"].removeprefix("my_images/test/")
        assert row["prediction"] == expected[name]["prediction"]


@pytest.mark.usefixtures("images")
def test_commands_find_the_folder_in_the_checkpoint(run):
    code, out, err = run(*FIT, *CONSTANT)
    assert code == 0, err
    assert read_checkpoint("best.ckpt")["hyper_parameters"]["classes"] == list(CLASSES)
    found = re.search(r"^Next: +python -m fmnist_lightning (test .*)$", out, re.MULTILINE)
    assert found
    for command in (found[1], "validate --ckpt_path best.ckpt"):
        assert run(*command.split())[0] == 0
    _, out, _ = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert re.search(r"Resuming \S+ from step 2 with --trainer.max_epochs 3\n", out)
    Path("my_images").rename("moved")
    assert "there is no folder" in run("test", "--ckpt_path", "best.ckpt")[2]
    assert run("test", "--ckpt_path", "best.ckpt", "--data.data_dir", "moved")[0] == 0
    # Photos and exports need no folder.
    shutil.move("moved/test/dark/0.png", "new.png")
    code, out, err = run("predict", "--ckpt_path", "best.ckpt", "--photos", "new.png")
    assert code == 0, err
    assert "new.png  " in out
    code, out, err = run("export", "--ckpt_path", "best.ckpt")
    assert code == 0, err
    assert "model.onnx: its probabilities differ from PyTorch's by " in out


@pytest.mark.usefixtures("images")
def test_augmentation_for_fashion_mnist_is_refused(run):
    code, _, err = run(*FIT, "--model.augmentation", "PhotoAugmentation")
    assert code == 1
    assert "PhotoAugmentation is for the classes T-shirt/top, " in err
    assert "use --config own-images" in err


@pytest.mark.usefixtures("images")
def test_data_dir_may_be_a_path_and_a_data_module_serve_two_networks():
    data = ImageFolderDataModule(Path("my_images"))
    losses = []
    for classes in (CLASSES, CLASSES[::-1]):
        trainer = create_trainer(max_epochs=1, logger=False, enable_progress_bar=False)
        trainer.fit(FashionClassifier(MLP, classes=classes), datamodule=data)
        (metrics,) = trainer.test(load_classifier("best.ckpt"), data, verbose=False)
        losses.append(metrics["test/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.5)  # not of labels in another order


@pytest.mark.usefixtures("images")
def test_folder_of_own_images_is_not_filled_with_fashion_mnist(refused):
    message = refused("fit", "--data.data_dir", "my_images")
    assert "my_images holds other images ['my_images/t" in message
    assert "train on them with --config own-images or --data ImageFolderDataModule, or " in message
    Path("my_images/train").rename("flat")
    assert "flat holds other images ['flat/dark'" in refused("fit", "--data.data_dir=flat")


def idx(content):
    sizes = b"".join(size.to_bytes(4, "big") for size in content.shape)
    return bytes([0, 0, 8, content.dim()]) + sizes + content.to(torch.uint8).numpy().tobytes()


@pytest.fixture
def letters():
    """IDX files as those of EMNIST: a prefix, labels from 1, transposed: its row 0 is a column."""
    folder = Path("letters")
    folder.mkdir()
    for part, num in (("train", 90), ("test", 6)):
        labels = torch.arange(num) % 3 + 1
        images = torch.randint(0, 40, (num, 28, 28), generator=torch.Generator().manual_seed(num))
        images[:, 0] = 80 * labels[:, None]
        name = f"emnist-letters-{part}"
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_idx_files_of_other_data(letters, capsys):
    data = ImageFolderDataModule(str(letters))
    assert data.classes == ["1", "2", "3"]
    data.setup("fit")
    data.setup("test")
    assert len(data.train_dataset) + len(data.val_dataset) == 90
    assert data.test_dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test_dataset.images[:, 9, 0].tolist() == [80, 160, 240] * 2  # turned
    assert "holds transposed images, as all of EMNIST: turning them" in capsys.readouterr().out


def test_idx_files_without_some_labels_keep_the_others(letters):
    name = "emnist-letters-train-labels-idx1-ubyte"
    (letters / name).write_bytes(idx(torch.arange(90) % 2 + 2))
    data = ImageFolderDataModule(str(letters))
    assert data.classes == ["1", "2", "3"]  # 1 is in the test files
    data.setup("test")
    assert data.test_dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_idx_files_of_two_datasets_are_refused(letters):
    name = "train-labels-idx1-ubyte"
    shutil.copy(letters / f"emnist-letters-{name}", letters / f"emnist-digits-{name}")
    with pytest.raises(DataError, match=r"has 2 train files of labels.idx1; expected one"):
        ImageFolderDataModule(str(letters)).setup("fit")


def test_damaged_idx_file_is_named(letters):
    path = letters / "emnist-letters-test-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(DataError, match=f"cannot read {path}: "):
        ImageFolderDataModule(str(letters)).setup("test")


@pytest.mark.usefixtures("images")
def test_loaders_alone_need_a_network_of_their_classes():
    data = ImageFolderDataModule("my_images")
    data.setup("fit")
    trainer = create_trainer(max_epochs=1, logger=False)
    with pytest.raises(ValueError, match="has the classes dark, light, mixed, and the network has"):
        trainer.fit(FashionClassifier(MLP), data.train_dataloader(), data.val_dataloader())
