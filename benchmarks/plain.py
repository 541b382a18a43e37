"""The article's loop: PIL, `DataLoader`, `.item()` for each batch, the best weights saved.

It loads PyTorch and torchvision, and nothing of Lightning or this project.
"""

import argparse
import time
from typing import Any

import torch
from contest import parser, write
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

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


def accuracy(network: nn.Module, loader: DataLoader[Any]) -> float:
    """The part of the pictures that the network gets right, 0 to 1."""
    with torch.no_grad():
        right = [(network(images).argmax(1) == labels).float() for images, labels in loader]
    return torch.cat(right).mean().item()


def main() -> None:
    """Trains in the current folder."""
    options_of = parser(__doc__)
    options_of.add_argument(
        "--accuracy", action="store_true", help="validate once more, for it, off the clock"
    )
    options = options_of.parse_args()
    torch.manual_seed(0)
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
        if options.accuracy:
            epochs[-1]["accuracy"] = accuracy(network, val_loader)
    write(first_batch, epochs)


if __name__ == "__main__":
    main()
