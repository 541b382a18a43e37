"""Times the epochs of `examples/plain_pytorch.py`.

It imports PyTorch and torchvision, but neither Lightning nor this project.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
from common import baseline_parser, write_times
from plain_pytorch import CNN, evaluate, load_datasets, train_epoch
from torch import nn
from torch.utils.data import DataLoader


class TimedLoader(DataLoader[Any]):
    """A ``DataLoader`` that keeps when its first batch was ready, in seconds since 1970."""

    first_batch: float | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields the batches."""
        for batch in super().__iter__():
            self.first_batch = self.first_batch or time.time()
            yield batch


def main() -> None:
    """Trains in the current folder."""
    args = baseline_parser(__doc__).parse_args()
    torch.manual_seed(0)
    train, val, _ = load_datasets(args.data_dir)
    train_batches = TimedLoader(train, args.batch_size, shuffle=True)
    val_batches = DataLoader(val, args.batch_size)
    network, loss_fn = CNN(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.04)
    lowest, epochs = float("inf"), []
    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        train_loss = train_epoch(network, train_batches, loss_fn, optimizer)
        trained = time.perf_counter()
        val_loss, num_correct, num_images = evaluate(network, val_batches, loss_fn)
        validated = time.perf_counter()
        print(f"epoch {epoch}: train loss {train_loss:.4f}, val loss {val_loss:.4f}")
        if val_loss <= lowest:
            lowest = val_loss
            torch.save(network.state_dict(), "best.pt")
        epochs.append(
            {
                "train": trained - start,
                "validation": validated - trained,
                "accuracy": num_correct / num_images,
                "epoch": time.perf_counter() - start,
            }
        )
    write_times(train_batches.first_batch, epochs)


if __name__ == "__main__":
    main()
