"""The LightningDataModule: files to tensors, split, loaders."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import override

from fmnist_lightning.data.dataset import (
    CLASSES,
    Batch,
    DistributedBatchSampler,
    TensorImageDataset,
    global_seed,
    read_dataset,
    split_indices,
)
from fmnist_lightning.data.download import DataError, download, raw_folder
from fmnist_lightning.internals.specs import find_difference

# The arguments that decide which images are for training and which for validation.
SPLIT_KEYS = ("split_seed", "train_size", "val_size")


class InMemoryDataModule(LightningDataModule):
    """Images in memory, with a seeded split. Subclasses set ``classes`` and override ``read``.

    Batches are pairs of images, uint8, shape (N, 28, 28), and labels, int64, shape (N,). While a
    trainer runs, the whole dataset is on its device and batches are sliced there. Checkpoints store
    the split; resuming one with another split is an error, because it would turn training images
    into validation images.

    Args:
        batch_size: Images per optimizer step, over all devices together.
        eval_batch_size: Images per validation, test or prediction step, over all devices together.
            It affects only speed and memory. None is 250, and 1,000 on a GPU.
        split_seed: Seed of the random split.
        train_size: Training images; None takes all that are not for validation.
        val_size: Validation images; None takes a fifth.

    Raises:
        ValueError: If a number is out of range.
    """

    classes: Sequence[str]
    train_dataset: TensorImageDataset
    val_dataset: TensorImageDataset
    test_dataset: TensorImageDataset

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        split_seed: int = 0,
        train_size: int | None = None,
        val_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, min_value in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", 1 if eval_batch_size is None else eval_batch_size, 1),
            ("split_seed", split_seed, 0),
        ):
            if value is None or value < min_value:  # null passes the parser
                raise ValueError(f"{name} must be at least {min_value}, not {value}")
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.split_args: dict[str, Any] = {
            "split_seed": split_seed,
            "train_size": train_size,
            "val_size": val_size,
        }

    @override
    def setup(self, stage: str) -> None:
        """Reads the images that ``fit``, ``validate``, ``test`` or ``predict`` needs."""
        self._check_trainer()
        if stage in ("fit", "validate") and not hasattr(self, "train_dataset"):
            train, val = self.read("train"), self.read("val")
            assert train is not None
            self.train_dataset, self.val_dataset = (
                (train, val) if val is not None else self._split(train)
            )
        if stage in ("test", "predict") and not hasattr(self, "test_dataset"):
            test = self.read("test")
            assert test is not None
            self.test_dataset = test
        self._move_datasets(self._device)

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        """The training images, shuffled in an order that depends only on seed and epoch."""
        return self._loader(self.train_dataset, self.batch_size, shuffle=True)

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader(self.val_dataset)

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader(self.test_dataset)

    predict_dataloader = test_dataloader

    @override
    def teardown(self, stage: str) -> None:
        """Moves the images back to the CPU."""
        self._move_datasets(torch.device("cpu"))

    @override
    def state_dict(self) -> dict[str, Any]:
        """The split and the classes, for the checkpoint."""
        return self.split_args | {"classes": list(self.classes)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for a checkpoint of another split, or of other classes."""
        if difference := find_difference(state_dict, self.state_dict()):
            name, saved, current = difference
            raise ValueError(
                f"the checkpoint was trained with {name} {saved}, not {current}: images it was "
                "trained on would count as validation images, or labels mean other classes"
            )

    def read(self, split: str) -> TensorImageDataset | None:
        """Reads the images of ``train``, ``val`` or ``test``; None means to split ``train``.

        Raises:
            DataError: If the files are missing.
        """
        raise NotImplementedError

    def _split(self, dataset: TensorImageDataset) -> tuple[TensorImageDataset, TensorImageDataset]:
        self._fill_split_args(len(dataset))
        train_indices, val_indices = split_indices(len(dataset), **self.split_args)
        return dataset.subset(train_indices), dataset.subset(val_indices)

    def _fill_split_args(self, num: int) -> None:
        """Sets the sizes of the split that are None, for ``num`` images."""
        args = self.split_args
        if args["val_size"] is None:
            args["val_size"] = num // 5
        if args["train_size"] is None:
            args["train_size"] = num - args["val_size"]

    def _eval_loader(self, dataset: TensorImageDataset) -> DataLoader[Batch]:
        default = 250 if self._device.type == "cpu" else 1_000
        return self._loader(dataset, self.eval_batch_size or default)

    def _loader(
        self, dataset: TensorImageDataset, batch_size: int, shuffle: bool = False
    ) -> DataLoader[Batch]:
        sampler = DistributedBatchSampler(
            dataset,
            batch_size=max(1, batch_size // self._world_size),
            shuffle=shuffle,
            seed=global_seed() or 0,
            num_replicas=self._world_size,
            rank=self.trainer.global_rank if self.trainer else 0,
        )
        return DataLoader(dataset, batch_size=None, sampler=sampler)  # it yields whole batches

    def _move_datasets(self, device: torch.device) -> None:
        for name in ("train_dataset", "val_dataset", "test_dataset"):
            if hasattr(self, name):
                setattr(self, name, getattr(self, name).to(device))

    def _check_trainer(self) -> None:
        """Raises ValueError where a setting can't work with this trainer."""
        if self.batch_size % self._world_size:
            raise ValueError(
                f"batch_size {self.batch_size} is for all devices together and can't be divided "
                f"by {self._world_size} devices; choose a multiple of {self._world_size}"
            )
        overfit_batches: Any = getattr(self.trainer, "overfit_batches", 0)
        if overfit_batches:  # Lightning would replace our sampler by one of single images
            raise ValueError(
                f"overfit_batches {overfit_batches} is not supported, because batches are sliced "
                "from memory; set --data.train_size to the number of images to overfit"
            )

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1


class FashionMNISTDataModule(InMemoryDataModule):
    """Fashion-MNIST, downloaded and verified.

    Args:
        data_dir: Folder in torchvision's layout (``FashionMNIST/raw`` below it). Missing files are
            downloaded.
        train_size: Training images, of the 60,000 of the official training set.
        val_size: Validation images, of the same 60,000.
        **kwargs: Of :class:`InMemoryDataModule`, such as ``batch_size``.

    Raises:
        ValueError: If a number is out of range.
    """

    classes = CLASSES

    def __init__(
        self,
        data_dir: str = "data",
        train_size: int | None = 48_000,
        val_size: int | None = 12_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(train_size=train_size, val_size=val_size, **kwargs)
        self._fill_split_args(60_000)
        split_indices(60_000, **self.split_args)  # raises where the sizes don't fit
        self.data_dir = data_dir

    @override
    def prepare_data(self) -> None:
        """Downloads missing files, in one process per machine."""
        download(self.data_dir)

    @override
    def read(self, split: str) -> TensorImageDataset | None:
        if split == "val":
            return None
        try:
            return read_dataset(raw_folder(self.data_dir), train=split == "train")
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing; call prepare_data() first") from error
