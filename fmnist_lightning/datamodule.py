"""Serves the pictures: files to tensors, split, loaders."""

import os
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, DistributedSampler

from fmnist_lightning.dataset import CLASSES, Batch, PictureDataset, read_dataset, split_indices
from fmnist_lightning.sources import DataError, fetch, raw_folder

# The arguments that decide which pictures are for training and which for validation.
SPLIT_KEYS = ("split_seed", "train_size", "val_size")


def _as_is(batch: Any) -> Any:
    """The collate function: ``PictureDataset`` gives whole batches already."""
    return batch


class FashionMNISTDataModule(LightningDataModule):
    """Fashion-MNIST in memory, with a seeded split of the official training set.

    Batches are pairs of pictures, uint8, shape (N, 28, 28), and labels, int64, shape (N,). The
    split goes into every checkpoint, and loading one beside a data module that splits otherwise is
    an error: it would turn pictures that were trained on into validation pictures.

    Args:
        data_dir: Folder of the data set in torchvision's layout (``FashionMNIST/raw`` below it).
            The files are downloaded where they are missing.
        batch_size: Pictures in one optimiser step, over all devices together.
        eval_batch_size: Pictures in one validation, test or prediction step, over all devices
            together. It changes speed and memory only.
        num_workers: Processes that cut batches. The pictures are in memory, so 0 is the fastest.
        split_seed: Seed of the random split.
        train_size: Pictures for training, from the 60,000 of the official training set.
        val_size: Pictures for validation, from the same 60,000.

    Raises:
        ValueError: If a number is out of range.
    """

    classes = CLASSES

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 128,
        eval_batch_size: int = 1000,
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
        self.split = {"split_seed": split_seed, "train_size": train_size, "val_size": val_size}

    def prepare_data(self) -> None:
        """Gets the four files, on one process of each machine; see ``sources.fetch``."""
        fetch(self.data_dir)

    def setup(self, stage: str) -> None:
        """Reads what the stage needs into memory.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            DataError: If the files are not there, because ``prepare_data`` was not called.
            ValueError: If the batch can't be shared out evenly among the processes.
        """
        if self.batch_size % self._world_size:
            raise ValueError(
                f"batch_size {self.batch_size} is for all devices together and can't be divided "
                f"among {self._world_size} of them; choose a multiple of {self._world_size}"
            )
        folder = raw_folder(self.data_dir)
        try:
            if stage in ("fit", "validate") and not hasattr(self, "train_set"):
                official = read_dataset(folder, train=True)
                train, val = split_indices(
                    len(official),
                    self.split["train_size"],
                    self.split["val_size"],
                    self.split["split_seed"],
                )
                self.train_set, self.val_set = official.subset(train), official.subset(val)
            if stage in ("test", "predict") and not hasattr(self, "test_set"):
                self.test_set = read_dataset(folder, train=False)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing; call prepare_data() first") from error

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training pictures, shuffled in an order that depends on seed and epoch alone."""
        sampler: DistributedSampler[Batch] = DistributedSampler(
            self.train_set,
            num_replicas=self._world_size,
            rank=self._rank,
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),  # seed_everything leaves its seed there
        )
        return self._loader(self.train_set, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation pictures, each once."""
        return self._eval_loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The official test set in its own order, each picture once."""
        return self._eval_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The official test set in its own order, each picture once."""
        return self._eval_loader(self.test_set)

    def _eval_loader(self, dataset: PictureDataset) -> DataLoader[Batch]:
        # Unlike its base class, this sampler shows no picture twice to make the shares equal.
        sampler = UnrepeatedDistributedSampler(
            dataset, num_replicas=self._world_size, rank=self._rank, shuffle=False
        )
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _loader(
        self, dataset: PictureDataset, sampler: DistributedSampler[Batch], batch_size: int
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=max(1, batch_size // self._world_size),
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

    def state_dict(self) -> dict[str, Any]:
        """The split, for the checkpoint."""
        return dict(self.split)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Checks that the checkpoint was trained on this split.

        Raises:
            ValueError: If it was not.
        """
        if state_dict != self.split:
            theirs = ", ".join(f"{key}={state_dict.get(key)}" for key in SPLIT_KEYS)
            ours = ", ".join(f"{key}={self.split[key]}" for key in SPLIT_KEYS)
            raise ValueError(
                f"the checkpoint was trained on another split ({theirs}) than this data module's "
                f"({ours}); pictures it was trained on would count as validation pictures"
            )
