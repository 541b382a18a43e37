"""What this project is measured against, each in a process of its own, started by `speed.py`.

All do the article's work: its network and its optimiser, 48,000 pictures to train with and 12,000
to validate.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from stopwatch import Stopwatch, write
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import datasets, transforms

from fmnist_lightning import ArticleCNN
from fmnist_lightning.dataset import read_dataset, split_indices
from fmnist_lightning.sources import raw_folder

Loaders = tuple[DataLoader[Any], DataLoader[Any]]


class PlainCNN(nn.Module):
    """The article's network as plain PyTorch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 10, 5)
        self.fc1, self.fc2 = nn.Linear(160, 56), nn.Linear(56, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures, shape (N, 1, 28, 28), to values between 0 and 1, shape (N, 10)."""
        x = F.max_pool2d(self.conv1(images), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return torch.sigmoid(self.fc2(x))


def torchvision_loaders(options: argparse.Namespace) -> Loaders:
    """Training and validation pictures, each a PIL picture on its way to a tensor."""
    dataset = datasets.FashionMNIST(
        str(options.data_dir), train=True, transform=transforms.ToTensor()
    )
    rest = len(dataset) - options.train_size - options.val_size
    train, val, _ = random_split(dataset, [options.train_size, options.val_size, rest])
    return (
        DataLoader(train, batch_size=options.batch_size, shuffle=True),
        DataLoader(val, batch_size=options.batch_size),
    )


def plain(options: argparse.Namespace) -> None:
    """The article's loop: PIL, `DataLoader`, `.item()` for each batch, the best weights saved."""
    train_loader, val_loader = torchvision_loaders(options)
    network = PlainCNN()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04)
    criterion = nn.CrossEntropyLoss()
    first_batch, epochs, best = None, [], float("inf")
    for epoch in range(options.epochs):
        start = time.perf_counter()
        train_loss = val_loss = 0.0
        network.train()
        for images, labels in train_loader:
            first_batch = first_batch or time.time()
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
            train_loss += loss.item() * len(labels)
        middle = time.perf_counter()
        network.eval()
        with torch.no_grad():
            for images, labels in val_loader:
                val_loss += criterion(network(images), labels).item() * len(labels)
        end = time.perf_counter()
        train_loss, val_loss = train_loss / options.train_size, val_loss / options.val_size
        print(f"epoch {epoch}: training loss {train_loss:.4f}, validation loss {val_loss:.4f}")
        if val_loss <= best:
            best = val_loss
            torch.save(network.state_dict(), "best.pt")
        whole = time.perf_counter() - start
        epochs.append({"train": middle - start, "validation": end - middle, "epoch": whole})
    assert first_batch is not None
    write(first_batch, epochs)


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


def textbook(options: argparse.Namespace) -> None:
    """By the book: metrics' `forward`, two logged values a step, Rich bar, TensorBoard."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        logger=TensorBoardLogger(".", default_hp_metric=False),
        callbacks=[Stopwatch(), RichProgressBar(), ModelCheckpoint(monitor="val/loss")],
    )
    trainer.fit(TextbookModule(), datamodule=TextbookData(options))


def floor(options: argparse.Namespace) -> None:
    """The computation itself: batches that are cut already, and nothing around the network."""
    if options.threads:
        torch.set_num_threads(options.threads)
    official = read_dataset(raw_folder(options.data_dir), train=True)
    train, val = split_indices(len(official), options.train_size, options.val_size, seed=0)
    train_set = official.subset(train)
    val_batches = torch.split(official.images[val], 500)
    network: Any = ArticleCNN(sigmoid=True)
    if not options.contiguous:
        network.to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04, fused=options.fused or None)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            return F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels)

    first_batch, epochs = None, []
    for _ in range(options.epochs):
        order = torch.randperm(options.train_size)
        batches = [train_set[index] for index in torch.split(order, options.batch_size)]
        start = time.perf_counter()
        network.train()
        for images, labels in batches:
            first_batch = first_batch or time.time()
            loss = loss_of(images, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        middle = time.perf_counter()
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            for images in val_batches:
                network(images.unsqueeze(1).float() / 255)
        end = time.perf_counter()
        epochs.append({"train": middle - start, "validation": end - middle, "epoch": end - start})
    assert first_batch is not None
    write(first_batch, epochs)


def main() -> None:
    """Runs one of them in the current folder."""
    contestants: dict[str, Callable[[argparse.Namespace], None]] = {
        "plain": plain,
        "textbook": textbook,
        "floor": floor,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant", choices=contestants)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--train-size", type=int, default=48_000)
    parser.add_argument("--val-size", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=2)
    only = parser.add_argument_group("floor only")
    only.add_argument("--contiguous", action="store_true", help="not channels_last")
    only.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    only.add_argument("--compile", action="store_true", help="torch.compile")
    only.add_argument("--fused", action="store_true", help="the optimiser's fused kernel")
    only.add_argument("--threads", type=int, help="of PyTorch")
    options = parser.parse_args()
    seed_everything(0, verbose=False)
    contestants[options.contestant](options)


if __name__ == "__main__":
    main()
