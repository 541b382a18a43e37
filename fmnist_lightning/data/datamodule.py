"""The LightningDataModule: files to tensors, split, loaders."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import override

from fmnist_lightning.data.checks import check_split
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


class InMemoryDataModule(LightningDataModule):
    """Images in memory: what all data modules of this package have in common.

    Batches are pairs of images, uint8, shape (N, 28, 28), and labels, int64, shape (N,). A loader
    copies the whole dataset to the device of the trainer and slices batches there.

    Subclasses set ``classes``, and override ``setup`` and ``exclude_trained``.

    Args:
        batch_size: Images per optimizer step, over all devices together.
        eval_batch_size: Images per validation, test or prediction step, over all devices together.
            It affects only speed and memory. None is 250, and 1,000 on a GPU.
        split_seed: Seed of the random split into training and validation images.

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
        self.split_seed = split_seed

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        """The training images, shuffled in an order that depends only on seed and epoch."""
        if getattr(self.trainer, "overfit_batches", 0):  # whose sampler yields single images
            raise ValueError(
                "overfit_batches is not supported, because batches are sliced from memory; of "
                "Fashion-MNIST, set --data.train_size to their number"
            )
        self.trained_on.append(self.state_dict())
        return self._loader("train", self.train_dataset)

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val", self.val_dataset)

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", self.test_dataset)

    predict_dataloader = test_dataloader

    def exclude_trained(self, state: dict[str, Any]) -> None:
        """Keeps images that a network has been trained on out of validation.

        ``state`` is that of its data module then. Raises ValueError for another split.
        """
        raise NotImplementedError

    @property
    def trained_on(self) -> list[dict[str, Any]]:
        """That of the network: the state of the data module of each of its fits."""
        module = getattr(self.trainer, "lightning_module", None)
        return getattr(module, "trained_on", [])

    def _loader(self, split: str, dataset: TensorImageDataset) -> DataLoader[Batch]:
        rank, world_size = 0, 1
        if self.trainer:
            dataset = dataset.to(self.trainer.strategy.root_device)
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        dataset.classes = self.classes
        default = 250 if dataset.images.device.type == "cpu" else 1_000
        batch_size = self.batch_size if split == "train" else self.eval_batch_size or default
        if split == "train" and batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} is for all devices together and can't be divided by "
                f"{world_size} devices; choose a multiple of {world_size}"
            )
        if len(dataset) < world_size:
            raise ValueError(f"{len(dataset)} {split} images are fewer than {world_size} devices")
        batch_size = max(1, batch_size // world_size)
        seed, shuffle = global_seed() or 0, split == "train"
        sampler = DistributedBatchSampler(dataset, batch_size, shuffle, seed, world_size, rank)
        # Without a batch size, as the sampler yields whole batches.
        return DataLoader(dataset, batch_size=None, sampler=sampler)


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
        train_size: int = 48_000,
        val_size: int = 12_000,
        **kwargs: Any,
    ) -> None:
        data_dir = str(data_dir)  # a Path can't be read back from a checkpoint
        super().__init__(**kwargs)
        self.data_dir = data_dir
        self.train_size = train_size
        self.val_size = val_size

    @override
    def prepare_data(self) -> None:
        """Downloads missing files, in one process per machine."""
        download(self.data_dir)

    @override
    def setup(self, stage: str) -> None:
        """Reads the images that ``fit``, ``validate``, ``test`` or ``predict`` needs, once."""
        raw = raw_folder(self.data_dir)
        if stage in ("test", "predict"):
            if not hasattr(self, "test_dataset"):
                self.test_dataset = read_dataset(raw, train=False)
            return
        if not hasattr(self, "train_dataset"):
            official = read_dataset(raw, train=True)
            sizes = self.train_size, self.val_size
            train_indices, val_indices = split_indices(len(official), *sizes, self.split_seed)
            self.train_dataset = official.subset(train_indices)
            self.val_dataset = official.subset(val_indices)
        for state in self.trained_on:
            self.exclude_trained(state)

    @override
    def state_dict(self) -> dict[str, Any]:
        """The split, for the checkpoint."""
        return {name: getattr(self, name) for name in ("split_seed", "train_size", "val_size")}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for a checkpoint of another split."""
        check_split(state_dict, self.state_dict())

    @override
    def exclude_trained(self, state: dict[str, Any]) -> None:
        current = self.state_dict()
        del current["train_size"]  # another one changes no validation image
        check_split(state, current)
