"""The LightningDataModule: files to tensors, split, loaders."""

from collections.abc import Sequence
from typing import Any

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
from fmnist_lightning.data.download import download, raw_folder
from fmnist_lightning.internals.specs import find_difference

# The arguments that decide which images are for training and which for validation.
SPLIT_KEYS = ("split_seed", "train_size", "val_size")


class InMemoryDataModule(LightningDataModule):
    """Images in memory, with a seeded split. Subclasses set ``classes`` and override ``read``.

    Batches are pairs of images, uint8, shape (N, 28, 28), and labels, int64, shape (N,). A loader
    copies the whole dataset to the device of the trainer and slices batches there. Checkpoints
    store the split; resuming one with another split is an error, because it would turn training
    images into validation images.

    Args:
        batch_size: Images per optimizer step, over all devices together.
        eval_batch_size: Images per validation, test or prediction step, over all devices together.
            It affects only speed and memory. None is 250, and 1,000 on a GPU.
        split_seed: Seed of the random split.
        train_size: Training images; None takes all that are not for validation.
        val_size: Validation images; None takes a fifth.

    Raises:
        ValueError: If a batch size or the seed is out of range.
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
        self.split_args: dict[str, Any] = {key: self.hparams[key] for key in SPLIT_KEYS}

    @override
    def setup(self, stage: str) -> None:
        """Reads the images that ``fit``, ``validate``, ``test`` or ``predict`` needs."""
        if stage in ("fit", "validate") and not hasattr(self, "train_dataset"):
            train: Any = self.read("train")
            val = self.read("val")
            both = self._split(train) if val is None else (train, val)
            self.train_dataset, self.val_dataset = both
        if stage in ("test", "predict") and not hasattr(self, "test_dataset"):
            test: Any = self.read("test")
            self.test_dataset = test
        if self.trainer:
            self._check_trainer(self.trainer)

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        """The training images, shuffled in an order that depends only on seed and epoch."""
        return self._loader(self.train_dataset, self.batch_size, shuffle=True)

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val_dataset, self.eval_batch_size)

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test_dataset, self.eval_batch_size)

    predict_dataloader = test_dataloader

    @override
    def state_dict(self) -> dict[str, Any]:
        """The split and the classes, for the checkpoint."""
        return self.split_args | {"classes": list(self.classes)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for a checkpoint of another split, or of other classes."""
        # Sizes that are not known yet, before ``fit`` or ``validate``, are no difference.
        known = {key: value for key, value in self.state_dict().items() if value is not None}
        if difference := find_difference(known, state_dict):
            name, current, saved = difference
            raise ValueError(
                f"the checkpoint was trained with {name} {saved}, not {current}: images it was "
                "trained on would count as validation images, or labels mean other classes"
            )

    def read(self, split: str) -> TensorImageDataset | None:
        """Reads the images of ``train``, ``val`` or ``test``; None means to split ``train``."""
        raise NotImplementedError

    def _split(self, dataset: TensorImageDataset) -> tuple[TensorImageDataset, TensorImageDataset]:
        """Training and validation images, after the sizes that are None are set."""
        args, num = self.split_args, len(dataset)
        if args["val_size"] is None:
            args["val_size"] = num // 5
        if args["train_size"] is None:
            args["train_size"] = num - args["val_size"]
        train, val = split_indices(num, **args)
        return dataset.subset(train), dataset.subset(val)

    def _loader(
        self, dataset: TensorImageDataset, batch_size: int | None, shuffle: bool = False
    ) -> DataLoader[Batch]:
        if self.trainer:
            dataset = dataset.to(self.trainer.strategy.root_device)
        if batch_size is None:
            batch_size = 250 if dataset.images.device.type == "cpu" else 1_000
        world_size = getattr(self.trainer, "world_size", 1)
        rank = getattr(self.trainer, "global_rank", 0)
        batch_size = max(1, batch_size // world_size)
        seed = global_seed() or 0
        sampler = DistributedBatchSampler(dataset, batch_size, shuffle, seed, world_size, rank)
        # Without a batch size, as the sampler yields whole batches.
        return DataLoader(dataset, batch_size=None, sampler=sampler)

    def _check_trainer(self, trainer: Any) -> None:
        if self.batch_size % trainer.world_size:
            raise ValueError(
                f"batch_size {self.batch_size} is for all devices together and can't be divided by "
                f"{trainer.world_size} devices; choose a multiple of {trainer.world_size}"
            )
        if trainer.overfit_batches:  # Lightning would replace our sampler by one of single images
            raise ValueError(
                f"overfit_batches {trainer.overfit_batches} is not supported, because batches are "
                "sliced from memory; set --data.train_size to the number of images to overfit"
            )


class FashionMNISTDataModule(InMemoryDataModule):
    """Fashion-MNIST, downloaded and verified.

    Args:
        data_dir: Folder in torchvision's layout (``FashionMNIST/raw`` below it). Missing files are
            downloaded.
        train_size: Training images, of the 60,000 of the official training set.
        val_size: Validation images, of the same 60,000.
        **kwargs: Of :class:`InMemoryDataModule`, such as ``batch_size``.
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
        self.data_dir = data_dir

    @override
    def prepare_data(self) -> None:
        """Downloads missing files, in one process per machine."""
        download(self.data_dir)

    @override
    def read(self, split: str) -> TensorImageDataset | None:
        if split == "val":
            return None
        return read_dataset(raw_folder(self.data_dir), train=split == "train")
