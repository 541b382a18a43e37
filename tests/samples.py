"""Inputs that several tests use."""

import shutil
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image, ImageDraw

from fmnist_lightning import FashionClassifier, FashionMNISTDataModule
from fmnist_lightning.data.dataset import TensorImageDataset
from fmnist_lightning.data.hash_split import HashSplitDataModule

SHIRT = [(60, 40), (140, 40), (180, 90), (160, 110), (140, 95), (140, 200), (60, 200), (60, 95)]


def photo(garment="#203050", background="#c8b090"):
    """A dark shirt, left of the centre, on a background with noise."""
    image = Image.new("RGB", (320, 240), background)
    ImageDraw.Draw(image).polygon([(x + 40, y) for x, y in SHIRT], fill=garment)
    noise = np.random.default_rng(0).normal(0, 6, (240, 320, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


CONFIG_DIR = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(set(CONFIG_DIR.glob("*.yaml")) - {CONFIG_DIR / "own-images.yaml"})


# Options with which a config runs on the tiny dataset.
TINY_OPTIONS = [
    *("--data.train_size=480", "--data.val_size=120", "--trainer.log_every_n_steps=1"),
    "--trainer.check_val_every_n_epoch=1",
]


def tiny_data(**kwargs):
    """The data module of the tiny dataset."""
    return FashionMNISTDataModule(**{"train_size": 480, "val_size": 120, "batch_size": 50} | kwargs)


class Recorder(Callback):
    """Records of every step its loss, its learning rate, and whether its batch is shared memory."""

    def __init__(self):
        self.losses = []
        self.rates = []
        self.was_shared = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.was_shared.append(batch[1].is_shared())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def train(classifier, *data, epochs=2, logger=False):
    """Fits with a data module or data loaders."""
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=recorder,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=4,
    )
    trainer.fit(classifier, *data)
    return trainer, recorder


def train_teacher(config, fit):
    """Trains what ``config`` learns from: a file ``fast`` here wins over the package's."""
    if "teacher: fast" in config.read_text():
        fit()
        shutil.copy("best.ckpt", "fast")


class OwnStep(FashionClassifier):
    """Learns labels that are shifted by a class."""

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return super().training_step((images, (labels + 1) % 10), batch_idx)


class Payload:
    """Creates the file ``mark`` when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("mark"),)


# The code of a module with a network that is not from this package.
THIRD_PARTY = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width: int = 8):
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""


class DarkAndBright(HashSplitDataModule):
    """Images in memory, whose order of batches and split are those of the base class."""

    classes = ("dark", "bright")

    def read(self, split):
        if split == "val":
            return None
        labels = torch.arange(600) % 2
        noise = torch.randint(0, 200, (600, 28, 28), generator=torch.Generator().manual_seed(0))
        return TensorImageDataset((noise + 20 * labels[:, None, None]).to(torch.uint8), labels)
