"""A tiny dataset in the formats of the real one, no network, and fixtures that run commands."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest
import torch
import yaml

from fmnist_lightning.__main__ import main
from fmnist_lightning.data import download as sources
from fmnist_lightning.reports import EvaluationFigures, TensorBoardSetup

# The networks are tiny: more threads would be slower.
torch.set_num_threads(1)

NUM_TRAIN, NUM_TEST = 600, 105  # not multiples of the batch sizes in use
TINY = [
    *("--data.train_size", "480", "--data.val_size", "120", "--data.batch_size", "50"),
    *("--trainer.log_every_n_steps", "5"),
]
DEVICES = ("--trainer.accelerator", "cpu", "--trainer.devices", "2")
MLP = ("--model.network", "fmnist_lightning.MLP")


def pytest_configure(config):
    """Hides GPUs from all tests but those for GPUs: on CPUs, results repeat to the bit."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def tiny_labels(num):
    """The labels of the first images of a part: 5 to 14 of 95 images are of a class."""
    return torch.arange(10).repeat_interleave(torch.arange(5, 15))[7 * torch.arange(num) % 95]


def _images(num, seed):
    """Noise with a bright square, whose position a network can learn to map to the label.

    Every sixth square may be at that of another class. So no network is perfect, and as classes are
    of unequal size, what mixes up labels, predictions or averages shows in a number.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = tiny_labels(num)
    positions = labels.clone()
    positions[::6] = torch.randint(0, 10, positions[::6].shape, generator=generator)
    images = torch.randint(0, 100, (num, 28, 28), generator=generator, dtype=torch.uint8)
    for image, position in zip(images, positions.tolist(), strict=True):
        row, column = divmod(position, 5)
        image[4 + 12 * row :, 1 + 5 * column :][:8, :5] = 255
    return images, labels


def _idx(content):
    """The IDX format: two zero bytes, type, number of dimensions, dimensions, content."""
    head = bytes([0, 0, 8, content.dim()])
    dims = b"".join(size.to_bytes(4, "big") for size in content.shape)
    return head + dims + content.to(torch.uint8).numpy().tobytes()


@pytest.fixture(scope="session")
def tiny_files():
    """The four files of the tiny dataset, decompressed, by name."""
    files = {}
    for stem, num, seed in (("train", NUM_TRAIN, 0), ("t10k", NUM_TEST, 1)):
        images, labels = _images(num, seed)
        files[f"{stem}-images-idx3-ubyte"] = _idx(images)
        files[f"{stem}-labels-idx1-ubyte"] = _idx(labels)
    return files


@pytest.fixture(autouse=True)
def _isolation(request, tiny_files, monkeypatch, tmp_path):
    """Expects the tiny dataset, disables every source, and starts in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    if "real" in request.keywords:
        return
    monkeypatch.setattr(sources, "FILES", hashes(tiny_files))
    monkeypatch.setattr(sources, "MIRRORS", ())
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", Path("/nowhere/fashion-mnist"))
    monkeypatch.setattr(sources, "APT_SCRIPT", "echo no apt-get >&2; exit 1")
    if "reports" not in request.path.parts:  # drawing takes longer than a tiny training
        monkeypatch.setattr(EvaluationFigures, "log_figures", lambda *args: None)
        monkeypatch.setattr(TensorBoardSetup, "on_train_start", lambda *args: None)


def hashes(files):
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture
def data_dir(tiny_files, tmp_path):
    """``data`` in the current folder, with the tiny dataset."""
    raw = sources.raw_folder(tmp_path / "data")
    raw.mkdir(parents=True)
    for name, content in tiny_files.items():
        (raw / name).write_bytes(content)
    return tmp_path / "data"


@pytest.fixture
def packed(tiny_files, tmp_path):
    """A folder with the compressed files of the tiny dataset, as mirrors have them."""
    folder = tmp_path / "packed"
    folder.mkdir()
    for name, content in tiny_files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.fixture
def run(capsys, data_dir):
    """Runs a command in this process; returns exit code, stdout and stderr."""

    def run(*args):
        capsys.readouterr()
        code = main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def print_config(run, capsys):
    """Runs ``fit --print_config``; returns the settings."""

    def print_config(*args):
        with pytest.raises(SystemExit, match="0"):
            run("fit", *args, "--print_config")
        return yaml.safe_load(capsys.readouterr().out)

    return print_config


@pytest.fixture
def fit(run):
    """Runs ``fit`` on the tiny dataset, by default for two epochs; returns the run folder."""

    def fit(*args):
        before = set(Path("runs").glob("*"))
        code, _, err = run("fit", *TINY, "--trainer.max_epochs", "2", *args)
        assert code == 0, err
        (folder,) = set(Path("runs").glob("*")) - before
        return folder

    return fit


@pytest.fixture
def refused(run):
    """Runs a command that must fail with one line on stderr, no output and no new files."""

    def refused(*args):
        before = sorted(Path().rglob("*"))
        code, out, err = run(*args)
        assert code in (1, 2)
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert sorted(Path().rglob("*")) == before
        return line

    return refused
