import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from PIL import Image
from torch import Tensor

from fmnist_lightning import ImageFolderDataModule
from fmnist_lightning.data.download import DataError
from fmnist_lightning.data.folder import read_grayscale
from fmnist_lightning.runs.checkpoint import read_checkpoint

CLASSES = ("dark", "light", "mixed")


def write_images(split: str, num: int, classes: tuple[str, ...] = CLASSES) -> None:
    """Images of one gray value per class, with noise."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(classes):
        folder = Path("my_images", split, name)
        folder.mkdir(parents=True)
        for index in range(num):
            pixels = 80 * label + generator.integers(0, 60, (20, 30, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")


@pytest.fixture
def images() -> None:
    write_images("train", 20)
    write_images("test", 4)


@pytest.mark.usefixtures("images")
def test_classes_split_and_order() -> None:
    data = ImageFolderDataModule("my_images")
    assert data.classes == list(CLASSES)
    data.setup("fit")
    data.setup("test")
    datasets = data.train_dataset, data.val_dataset, data.test_dataset
    assert [len(dataset) for dataset in datasets] == [48, 12, 12]
    assert data.test_dataset.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    means = data.test_dataset.images.float().mean(dim=(1, 2))
    assert torch.equal((means / 80).long(), data.test_dataset.labels)
    other = ImageFolderDataModule("my_images", split_seed=1, val_size=30, train_size=10)
    other.setup("fit")
    assert (len(other.train_dataset), len(other.val_dataset)) == (10, 30)
    assert other.state_dict()["val_size"] == 30


@pytest.mark.usefixtures("images")
def test_folder_without_some_of_the_classes_has_the_labels_of_the_others() -> None:
    shutil.rmtree("my_images/test/dark")
    data = ImageFolderDataModule("my_images")
    data.setup("test")
    assert data.test_dataset.labels.tolist() == [1] * 4 + [2] * 4


@pytest.mark.usefixtures("images")
def test_folder_val_is_the_validation() -> None:
    write_images("val", 2)
    data = ImageFolderDataModule("my_images")
    data.setup("fit")
    assert (len(data.train_dataset), len(data.val_dataset)) == (60, 6)


RED = round(0.299 * 255)
TRANSPARENT = Image.new("RGBA", (50, 50), (255, 255, 255, 0))


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (28, 28), 100), 100),
        (Image.new("RGB", (90, 40), "red"), RED),
        (Image.new("RGB", (9, 40), "red").convert("P"), RED),
        (TRANSPARENT, 0),
        (TRANSPARENT.convert("LA"), 0),
        (Image.fromarray(np.full((28, 28), 200 * 256, dtype=np.uint16)), 200),
        (Image.new("1", (28, 28), 1), 255),
    ],
    ids=["gray", "RGB", "palette", "RGBA", "LA", "16 bits", "1 bit"],
)
def test_conversion_to_grayscale(image: Image.Image, value: int) -> None:
    image.save("image.png")
    pixels = read_grayscale("image.png")
    assert pixels.shape == (28, 28)
    assert pixels.dtype == np.uint8
    assert abs(pixels.astype(int) - value).max() <= 1


@pytest.mark.usefixtures("images")
def test_damaged_image_is_named() -> None:
    path = Path("my_images/train/light/3.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=f"cannot read the image {path}"):
        ImageFolderDataModule("my_images").setup("fit")


@pytest.mark.usefixtures("images")
def test_problems_of_a_folder_are_named(refused: Callable[..., str]) -> None:
    options = ("fit", "--data", "ImageFolderDataModule")
    assert "data_dir" in refused(*options)
    assert "nowhere needs folders train/CLASS and" in refused(*options, "--data.data_dir=nowhere")
    write_images("test/more", 1)
    data = ImageFolderDataModule("my_images")
    with pytest.raises(DataError, match=r"test has classes without training images: \['more'\]"):
        data.setup("test")


@pytest.mark.usefixtures("images")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_commands_find_the_folder_in_the_checkpoint(run: Run) -> None:
    fit = ("fit", "--data", "ImageFolderDataModule", "--data.data_dir", "my_images")
    code, out, err = run(*fit, "--trainer.max_epochs=2", "--model.lr_schedule=constant")
    assert code == 0, err
    assert read_checkpoint("best.ckpt")["hyper_parameters"]["classes"] == list(CLASSES)
    found = re.search(r"^Next: +python -m fmnist_lightning (test .*)$", out, re.MULTILINE)
    assert found
    for command in (found[1], "validate --ckpt_path best.ckpt", "predict --ckpt_path best.ckpt"):
        assert run(*command.split())[0] == 0
    _, out, _ = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert re.search(r"Resuming \S+ from step 2 with --trainer.max_epochs 3\n", out)
    Path("my_images").rename("moved")
    assert "my_images needs folders" in run("test", "--ckpt_path", "best.ckpt")[2]
    assert run("test", "--ckpt_path", "best.ckpt", "--data.data_dir", "moved")[0] == 0


def idx(content: Tensor) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in content.shape)
    return bytes([0, 0, 8, content.dim()]) + sizes + content.to(torch.uint8).numpy().tobytes()


@pytest.fixture
def letters() -> Path:
    """IDX files as those of EMNIST: a prefix, and labels from 1."""
    folder = Path("letters")
    folder.mkdir()
    for part, num in (("train", 30), ("test", 6)):
        labels = torch.arange(num) % 3 + 1
        images = (labels * 80)[:, None, None].expand(-1, 28, 28)
        name = f"emnist-letters-{part}"
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_idx_files_of_other_data(letters: Path) -> None:
    data = ImageFolderDataModule(str(letters))
    assert data.classes == ["1", "2", "3"]
    data.setup("fit")
    data.setup("test")
    assert (len(data.train_dataset), len(data.val_dataset)) == (24, 6)
    assert data.test_dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test_dataset.images[:, 0, 0].tolist() == [80, 160, 240] * 2


def test_idx_labels_without_training_images_are_refused(letters: Path) -> None:
    name = "emnist-letters-test-labels-idx1-ubyte"
    (letters / name).write_bytes(idx(torch.tensor([1, 2, 3, 4, 7, 1])))
    with pytest.raises(DataError, match=r"labels without training images: \{4, 7\}"):
        ImageFolderDataModule(str(letters)).setup("test")


def test_idx_images_of_another_size_are_refused(letters: Path) -> None:
    name = "emnist-letters-test-images-idx3-ubyte"
    (letters / name).write_bytes(idx(torch.zeros(6, 32, 32)))
    with pytest.raises(DataError, match=r"have \(32, 32\) pixels"):
        ImageFolderDataModule(str(letters)).setup("test")


def test_idx_files_of_two_datasets_are_refused(letters: Path) -> None:
    name = "train-labels-idx1-ubyte"
    shutil.copy(letters / f"emnist-letters-{name}", letters / f"emnist-digits-{name}")
    with pytest.raises(DataError, match=r"it has 2 \*train-labels"):
        ImageFolderDataModule(str(letters))
