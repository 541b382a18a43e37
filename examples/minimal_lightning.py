"""The program of `plain_pytorch.py`, but for its last image, as textbook PyTorch Lightning.

    python examples/minimal_lightning.py

The loops, the device, the checkpoints, the progress bar and the TensorBoard log are Lightning's.
"""
# ruff: noqa: D102 - Lightning names the methods, and its documentation describes them

import argparse

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import datasets, transforms

Batch = tuple[Tensor, Tensor]  # images, float, shape (N, 1, 28, 28); labels, shape (N,)


class FashionMNISTData(LightningDataModule):
    """48,000 images for training, 12,000 for validation, 10,000 for the test."""

    def __init__(self, data_dir: str = "data", batch_size: int = 20) -> None:
        super().__init__()
        self.data_dir, self.batch_size = data_dir, batch_size

    def prepare_data(self) -> None:  # once per machine
        for train in (True, False):
            datasets.FashionMNIST(self.data_dir, train=train, download=True)

    def setup(self, stage: str) -> None:  # in every process
        to_tensor = transforms.ToTensor()
        official = datasets.FashionMNIST(self.data_dir, train=True, transform=to_tensor)
        self.test = datasets.FashionMNIST(self.data_dir, train=False, transform=to_tensor)
        generator = torch.Generator().manual_seed(0)  # the same split in `fit` and `test`
        self.train, self.val = random_split(official, [0.8, 0.2], generator)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.val, self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.test, self.batch_size)


class Classifier(LightningModule):
    """The network of the article with its loss, optimizer and metrics."""

    def __init__(self, lr: float = 0.04) -> None:
        super().__init__()
        self.save_hyperparameters()  # lr, in self.hparams and in checkpoints
        self.network = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5),
            nn.MaxPool2d(2),  # (N, 6, 12, 12)
            nn.Conv2d(6, 10, kernel_size=5),
            nn.MaxPool2d(2),  # (N, 10, 4, 4)
            nn.Flatten(),
            nn.Linear(160, 56),
            nn.ReLU(),
            nn.Linear(56, 10),
            nn.Sigmoid(),
        )
        self.train_loss, self.val_loss, self.test_loss = (MeanMetric() for _ in range(3))
        self.train_acc, self.val_acc, self.test_acc = (
            MulticlassAccuracy(num_classes=10, average="micro") for _ in range(3)
        )

    def _step(self, batch: Batch, stage: str, mean_loss: Metric, accuracy: Metric) -> Tensor:
        images, labels = batch
        scores = self.network(images)
        loss = F.cross_entropy(scores, labels)
        mean_loss(loss)
        accuracy(scores.argmax(dim=1), labels)
        # Lightning computes and resets logged metrics at the end of each epoch.
        self.log(f"{stage}/loss", mean_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{stage}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._step(batch, "train", self.train_loss, self.train_acc)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "val", self.val_loss, self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._step(batch, "test", self.test_loss, self.test_acc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def main() -> None:
    """Trains, and tests the checkpoint with the lowest validation loss."""
    parser = argparse.ArgumentParser(description="Classify Fashion-MNIST with Lightning.")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    seed_everything(args.seed)
    data = FashionMNISTData(args.data_dir, args.batch_size)
    trainer = Trainer(
        max_epochs=args.epochs,
        logger=TensorBoardLogger("lightning_logs", name=None),
        callbacks=[ModelCheckpoint(monitor="val/loss")],
    )
    trainer.fit(Classifier(), data)
    trainer.test(datamodule=data, ckpt_path="best")


if __name__ == "__main__":
    main()
