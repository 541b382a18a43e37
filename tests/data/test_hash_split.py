"""Which images are for training: the same ones, whatever is added, removed or renamed."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from samples import DarkAndBright

from fmnist_lightning import MLP, FashionClassifier, ImageFolderDataModule, create_trainer
from fmnist_lightning.data.download import DataError
from fmnist_lightning.data.hash_split import find_hashes

FIT = ("fit", "--data", "ImageFolderDataModule", "--data.data_dir", "my_images")
CONSTANT = ("--trainer.max_epochs=2", "--model.lr_schedule=constant")


def write(split, name, values):
    """Images of one gray value each; their hashes differ."""
    folder = Path("my_images", split, name)
    folder.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("L", (28, 28), value).save(folder / f"{value}.png")


@pytest.fixture(autouse=True)
def _images():
    write("train", "dark", range(100))
    write("train", "light", range(150, 250))
    write("test", "dark", range(120, 125))
    write("test", "light", range(140, 145))


def split(**kwargs):
    """The gray values of the images for training and for validation."""
    data = ImageFolderDataModule("my_images", **kwargs)
    data.setup("fit")
    train, val = (
        dataset.images[:, 0, 0].tolist() for dataset in (data.train_dataset, data.val_dataset)
    )
    return train, val


def test_split_depends_on_images_and_seed_alone():
    train, val = split()
    assert len(train) + len(val) == 200
    assert 20 < len(val) < 60
    assert 70 < len(split(val_size=0.5)[1]) < 130
    assert set(split(split_seed=1)[1]) != set(val)
    folder = Path("my_images/train/dark")
    folder.joinpath("7.png").rename(folder / "x.png")  # sorts differently
    assert split() == (train, val)  # in the same order
    write("train", "dark", range(101, 110))
    folder.joinpath("11.png").unlink()
    shutil.copy(folder / "12.png", folder / "copy.png")  # is on the side of the other
    new_train, new_val = map(set, split())
    added, gone = set(range(101, 110)), {11}
    assert new_train - added == set(train) - gone
    assert new_val - added == set(val) - gone
    assert not new_train & new_val


@pytest.mark.parametrize("value", [0.0, 1.0, 1000])
def test_val_size_is_a_fraction(value):
    with pytest.raises(ValueError, match=f"val_size must be a fraction, .* not {value}"):
        ImageFolderDataModule("my_images", val_size=value)


def test_resume_needs_the_same_training_images(run):
    code, _, err = run(*FIT, *CONSTANT)
    assert code == 0, err
    resume = ("fit", "--ckpt_path", "last", "--trainer.max_epochs")
    folder = Path("my_images/train/dark")
    (folder / "7.png").rename(folder / "x.png")
    assert run(*resume, "3")[0] == 0  # of the same images
    train, _ = split()
    dark = [value for value in train if value < 100]
    refusal = f"the training images are not the {len(train)} of the run: use the same ones"
    shutil.move(folder / f"{dark[-1]}.png", "my_images/train/light")
    assert refusal in run(*resume, "4")[2]
    write("train", "dark", range(100, 110))
    assert refusal in run(*resume, "4")[2]
    # A new run from the weights keeps what they were trained on out of its validation.
    code, out, err = run("fit", "--ckpt_path", "best.ckpt", *CONSTANT, "--data.split_seed=1")
    assert code == 0, err
    (left_out,) = re.findall(r"Left out (\d\d) of \d\d validation images: trained on before", out)
    # It knows them also when it is validated, or resumed.
    for command in ("validate", "fit"):
        code, out, err = run(
            command, "--ckpt_path", "last", *["--trainer.max_epochs=3"] * (command == "fit")
        )
        assert f"Left out {left_out} of " in out
    trainer = create_trainer(logger=False)
    data = ImageFolderDataModule("my_images", split_seed=1)
    num = len(split(split_seed=1)[1])
    classifier = FashionClassifier(classes=data.classes)
    trainer.validate(classifier, data, ckpt_path="best.ckpt", verbose=False)
    assert classifier.val_metrics.compute()["confusion"].sum() == num - int(left_out)
    # The same data module with a network that was not trained on anything.
    fresh = FashionClassifier(MLP, classes=data.classes)
    trainer = create_trainer(logger=False, max_epochs=1)
    trainer.fit(fresh, datamodule=data)
    assert fresh.val_metrics.compute()["confusion"].sum() == num
    # What a network is trained on in a script, it knows.
    trainer = create_trainer(logger=False)
    trainer.validate(fresh, ImageFolderDataModule("my_images", split_seed=2), verbose=False)
    assert fresh.val_metrics.compute()["confusion"].sum() < len(split(split_seed=2)[1])


def test_validate_and_test_know_the_training_images(run):
    code, _, err = run(*FIT, *CONSTANT)
    assert code == 0, err
    train, val = split()
    code, out, _ = run("validate", "--ckpt_path", "best.ckpt")
    assert f"/{len(val)})" in out
    assert "Left out" not in out
    # A folder of validation images that is added later: some are training images.
    for value in (train[0], val[0], *train[-3:]):
        name = "dark" if value < 100 else "light"
        for part in ("val", "test"):
            write(part, name, range(value, value + 1))
    code, out, err = run("validate", "--ckpt_path", "best.ckpt")
    assert code == 0, err
    assert "Left out 4 of 5 validation images: trained on before" in out
    assert "validate accuracy" in out
    assert "/1)" in out
    code, out, _ = run("test", "--ckpt_path", "best.ckpt")
    assert "The network was trained on 4 of 15 test images" in out
    assert "/15)" in out
    shutil.rmtree("my_images/train")  # is not needed beside the others
    assert run("validate", "--ckpt_path", "best.ckpt")[0] == 0


def test_split_without_validation_images_is_refused():
    data = ImageFolderDataModule("my_images", val_size=1e-9)
    data.setup("fit")
    with pytest.raises(DataError, match="there are no validation images: add some, or raise"):
        data.val_dataloader()


def test_own_data_module_is_split_by_pixels():
    data = DarkAndBright()
    data.setup("fit")
    assert len(data.train_dataset) + len(data.val_dataset) == 600
    hashes = find_hashes(data.train_dataset)
    assert torch.equal(hashes, hashes.sort().values)
    means = data.train_dataset.images.float().mean(dim=(1, 2))
    assert torch.equal(means > 110, data.train_dataset.labels == 1)


def test_odd_folders_are_named(capsys):
    shutil.copy("my_images/train/dark/5.png", "my_images/train/light")
    split()
    assert "1 training images are in two classes" in capsys.readouterr().out
    write("val", "dark", range(130, 135))
    with pytest.raises(DataError, match="val_size and split_seed have no effect beside images"):
        split(split_seed=1)
