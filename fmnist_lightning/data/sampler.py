"""Whole batches of indices, for one or several devices."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from fmnist_lightning.data.dataset import Batch, TensorImageDataset


class DistributedBatchSampler(DistributedSampler[Batch]):
    """Yields the indices of each batch of a rank, int64, (batch_size,), on the dataset's device.

    For a ``DataLoader`` with ``batch_size=None``, which reads each batch as one item. Lightning
    keeps a ``DistributedSampler`` on any number of devices, and calls its ``set_epoch``.

    Without ``shuffle``, all ranks together see each image once. With it, the order depends on seed
    and epoch alone, and each rank has equally many images: up to ``num_replicas - 1`` come twice.
    """

    def __init__(
        self,
        dataset: TensorImageDataset,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle, seed)
        self.batch_size = batch_size
        self.device = dataset.images.device
        if not shuffle:  # the base class would repeat images, which would count twice
            self.total_size = len(dataset)
            self.num_samples = len(range(rank, len(dataset), num_replicas))

    def __len__(self) -> int:
        return len(range(0, self.num_samples, self.batch_size))

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        # A generator draws the order with the first batch. When Lightning resumes a run, it makes
        # the iterator before it calls `set_epoch`.
        num: int = len(self.dataset)  # type: ignore[arg-type]
        indices = torch.arange(self.total_size)[self.rank :: self.num_replicas] % num
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            indices = torch.randperm(num, generator=generator)[indices]  # (num_samples,)
        if self.device.type == "cuda":  # one asynchronous copy an epoch
            indices = indices.pin_memory()
        yield from torch.split(indices.to(self.device, non_blocking=True), self.batch_size)
