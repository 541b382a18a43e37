"""Lightning by the book: metrics' `forward`, two logged values a step, Rich bar, TensorBoard."""

import argparse
from typing import Any

import torch
from contest import parser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from plain import PlainCNN, torchvision_loaders
from stopwatch import Stopwatch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy


class TextbookModule(LightningModule):
    """A module as most projects with Lightning have it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = PlainCNN()
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_acc, self.val_acc = MulticlassAccuracy(10), MulticlassAccuracy(10)

    def _step(self, batch: tuple[Tensor, Tensor], stage: str, loss_metric: Any, acc: Any) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        loss_metric(loss)
        acc(logits.argmax(dim=1), labels)
        self.log(f"{stage}/loss", loss_metric, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{stage}/acc", acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss, shape ()."""
        return self._step(batch, "train", self.train_loss, self.train_acc)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Counts a batch."""
        self._step(batch, "val", self.val_loss, self.val_acc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The article's."""
        return torch.optim.SGD(self.parameters(), lr=0.04)


class TextbookData(LightningDataModule):
    """A data module as most projects with Lightning have it."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options

    def setup(self, stage: str) -> None:
        """Splits."""
        self.loaders = torchvision_loaders(self.options)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled."""
        return self.loaders[0]

    def val_dataloader(self) -> DataLoader[Any]:
        """In order."""
        return self.loaders[1]


def main() -> None:
    """Trains in the current folder."""
    options = parser(__doc__).parse_args()
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        logger=TensorBoardLogger(".", default_hp_metric=False),
        callbacks=[Stopwatch(), RichProgressBar(), ModelCheckpoint(monitor="val/loss")],
    )
    trainer.fit(TextbookModule(), datamodule=TextbookData(options))


if __name__ == "__main__":
    main()
