"""Serves the pictures: files to tensors, split, loaders."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fmnist_lightning.data.dataset import (
    CLASSES,
    Batch,
    DistributedBatchSampler,
    TensorImageDataset,
    read_dataset,
    split_indices,
)
from fmnist_lightning.data.download import DataError, fetch, raw_folder

# The arguments that decide which pictures are for training and which for validation.
SPLIT_KEYS = ("split_seed", "train_size", "val_size")


def _as_is(batch: Any) -> Any:
    """The collate function: ``TensorImageDataset`` gives whole batches already."""
    return batch


class FashionMNISTDataModule(LightningDataModule):
    """Fashion-MNIST in memory, with a seeded split of the official training set.

    Batches are pairs of pictures, uint8, shape (N, 28, 28), and labels, int64, shape (N,). While a
    trainer runs, the whole set is on its device and batches are cut there. The split goes into
    every checkpoint, and loading one beside a data module that splits otherwise is an error: it
    would turn pictures that were trained on into validation pictures.

    Args:
        data_dir: Folder of the data set in torchvision's layout (``FashionMNIST/raw`` below it).
            The files are downloaded where they are missing.
        batch_size: Pictures in one optimiser step, over all devices together.
        eval_batch_size: Pictures in one validation, test or prediction step, over all devices
            together. It changes speed and memory only.
        num_workers: Processes that cut batches. The pictures are in memory, so 0 is the fastest,
            and on a GPU the only possibility.
        split_seed: Seed of the random split.
        train_size: Pictures for training, from the 60,000 of the official training set.
        val_size: Pictures for validation, from the same 60,000.

    Raises:
        ValueError: If a number is out of range.
    """

    classes = CLASSES
    train_dataset: TensorImageDataset
    val_dataset: TensorImageDataset
    test_dataset: TensorImageDataset

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        num_workers: int = 0,
        split_seed: int = 0,
        train_size: int = 48_000,
        val_size: int = 12_000,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("split_seed", split_seed, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        split_indices(60_000, train_size, val_size, split_seed)
        self.save_hyperparameters()
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.epochs_resumed = 0
        self.split = {"split_seed": split_seed, "train_size": train_size, "val_size": val_size}

    def prepare_data(self) -> None:
        """Gets the four files, on one process of each machine; see ``sources.fetch``."""
        fetch(self.data_dir)

    def setup(self, stage: str) -> None:
        """Reads what the stage needs into the memory of the device.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DataError: If the files are not there, because ``prepare_data`` was not called.
            ValueError: If the batch can't be shared out evenly among the processes, workers are
                asked for that could not read the memory of a GPU, or ``overfit_batches`` is set.
        """
        if self.batch_size % self._world_size:
            raise ValueError(
                f"batch_size {self.batch_size} is for all devices together and can't be divided "
                f"among {self._world_size} of them; choose a multiple of {self._world_size}"
            )
        overfit: Any = getattr(self.trainer, "overfit_batches", 0)
        if overfit:
            # Lightning would put a sampler of single pictures into the place of ours.
            raise ValueError(
                f"overfit_batches {overfit} can't be used with batches that are cut whole; "
                "set --data.train_size to the pictures to overfit"
            )
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self.num_workers and device.type != "cpu":
            raise ValueError(
                f"num_workers must be 0 on {device.type}, not {self.num_workers}: the pictures are "
                "in the memory of the device, where batches are cut without workers"
            )
        folder = raw_folder(self.data_dir)
        try:
            if stage in ("fit", "validate"):
                if not hasattr(self, "train_dataset"):
                    self._read_split(folder)
                self.train_dataset, self.val_dataset = (
                    self.train_dataset.to(device),
                    self.val_dataset.to(device),
                )
            if stage in ("test", "predict"):
                if not hasattr(self, "test_dataset"):
                    self.test_dataset = read_dataset(folder, train=False)
                self.test_dataset = self.test_dataset.to(device)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing; call prepare_data() first") from error

    def _read_split(self, folder: Path) -> None:
        official = read_dataset(folder, train=True)
        train, val = split_indices(
            len(official),
            self.split["train_size"],
            self.split["val_size"],
            self.split["split_seed"],
        )
        self.train_dataset, self.val_dataset = official.subset(train), official.subset(val)

    def teardown(self, stage: str) -> None:
        """Forgets a resumed run's epochs, and brings the pictures back to the CPU.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self.epochs_resumed = 0
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            if hasattr(self, name):
                setattr(self, name, getattr(self, name).to(torch.device("cpu")))

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training pictures, shuffled in an order that depends on seed and epoch alone."""
        return self._loader(self.train_dataset, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation pictures, each once."""
        return self._eval_loader(self.val_dataset)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The official test set in its own order, each picture once."""
        return self._eval_loader(self.test_dataset)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The official test set in its own order, each picture once."""
        return self._eval_loader(self.test_dataset)

    def _eval_loader(self, dataset: TensorImageDataset) -> DataLoader[Batch]:
        return self._loader(dataset, self.eval_batch_size, shuffle=False)

    def _loader(
        self, dataset: TensorImageDataset, batch_size: int, shuffle: bool
    ) -> DataLoader[Batch]:
        sampler = DistributedBatchSampler(
            dataset,
            batch_size=max(1, batch_size // self._world_size),
            shuffle=shuffle,
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),  # seed_everything leaves its seed there
            num_replicas=self._world_size,
            rank=self._rank,
        )
        # A resumed run asks for a loader, and workers begin, before Lightning tells it the epoch.
        sampler.set_epoch(max(self.epochs_resumed, self._epochs_done))
        return DataLoader(
            dataset,
            batch_size=None,  # the sampler gives whole batches
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=_as_is,
            persistent_workers=self.num_workers > 0,
        )

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _epochs_done(self) -> int:
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return int(progress.processed)  # what Lightning tells the sampler

    def state_dict(self) -> dict[str, Any]:
        """The split and the epochs that are done, for the checkpoint."""
        return self.split | {"epochs": self._epochs_done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the epoch, and checks that the checkpoint was trained on this split.

        Raises:
            ValueError: If it was not.
        """
        if any(state_dict.get(key) != self.split[key] for key in SPLIT_KEYS):
            theirs = ", ".join(f"{key}={state_dict.get(key)}" for key in SPLIT_KEYS)
            ours = ", ".join(f"{key}={self.split[key]}" for key in SPLIT_KEYS)
            raise ValueError(
                f"the checkpoint was trained on another split ({theirs}) than this data module's "
                f"({ours}); pictures it was trained on would count as validation pictures"
            )
        self.epochs_resumed = state_dict.get("epochs", 0)
