"""Own images: each is for training or for validation by what it is, not by its place in a list."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from fmnist_lightning.data.checks import check_labels
from fmnist_lightning.data.datamodule import InMemoryDataModule
from fmnist_lightning.data.dataset import Batch, TensorImageDataset
from fmnist_lightning.data.download import DataError
from fmnist_lightning.internals.console import print_line


class HashSplitDataModule(InMemoryDataModule):
    """Images in memory, of which the hash and the seed decide whether one is for validation.

    So images that are added, removed or renamed move no other, and equal images are never on both
    sides. Subclasses set ``classes`` and override ``read``. If ``read("val")`` returns images,
    these are the validation images. A label is matched with the classes of the network by its name.

    Checkpoints store the hashes of the training images. ``validate`` leaves these images out, and a
    run is resumed only with the same ones.

    Args:
        val_size: The fraction of the training images that is for validation, above 0 to below 1.
        **kwargs: Of :class:`InMemoryDataModule`, such as ``batch_size``.

    Raises:
        ValueError: If ``val_size`` is out of range.
    """

    def __init__(self, val_size: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < val_size < 1:
            raise ValueError(
                f"val_size must be a fraction, above 0 to below 1, such as 0.2, not {val_size}"
            )
        self.val_size = val_size

    def read(self, split: str) -> TensorImageDataset | None:
        """Reads the images of ``train``, ``val`` or ``test``; None means to split ``train``."""
        raise NotImplementedError

    @override
    def setup(self, stage: str) -> None:
        """Reads the images that ``fit``, ``validate``, ``test`` or ``predict`` needs, once."""
        if stage in ("fit", "validate") and not hasattr(self, "train_dataset"):
            val = self.read("val")
            if val is None or stage == "fit":
                train: Any = self.read("train")
                hashes = find_hashes(train)
                pairs = set(zip(hashes.tolist(), train.labels.tolist(), strict=True))
                if num := len(pairs) - len(hashes.unique()):  # type: ignore[no-untyped-call]
                    print_line(f"{num:,} training images are in two classes")
                if val is None:
                    is_val = split_hashes(hashes, self.val_size, self.split_seed)
                    train, val = train.subset(~is_val), train.subset(is_val)
                elif self.val_size != 0.2 or self.split_seed:
                    raise DataError(
                        "val_size and split_seed have no effect beside images for validation"
                    )
                # In the order of their hashes, whatever the names of their files are.
                self.train_dataset = train.subset(find_hashes(train).argsort(stable=True))
            self.val_dataset = val
        if stage in ("test", "predict") and not hasattr(self, "test_dataset"):
            test: Any = self.read("test")
            self.test_dataset = test
        # Of all images that the network was trained on, in this run and in others.
        self.trained_hashes = torch.empty(0, dtype=torch.int64)
        if hasattr(self, "train_dataset"):
            self.trained_hashes = find_hashes(self.train_dataset)
        for state in self.trained_on:
            self.exclude_trained(state)

    @override
    def train_dataloader(self) -> Any:
        if missing := find_missing(self.train_dataset.labels, self.classes):
            raise DataError(
                f"there is no training image of {missing}: add some, or remove its folders; if all "
                "of them are for validation, choose another --data.split_seed"
            )
        return super().train_dataloader()

    @override
    def val_dataloader(self) -> Any:
        """The validation images, without those that the network was trained on."""
        is_trained = torch.isin(find_hashes(self.val_dataset), self.trained_hashes)
        if num := int(is_trained.sum()):
            total = len(is_trained)
            print_line(f"Left out {num:,} of {total:,} validation images: trained on before")
        if is_trained.all():
            raise DataError("there are no validation images: add some, or raise --data.val_size")
        return self._loader("val", self.val_dataset.subset(~is_trained))

    @override
    def test_dataloader(self) -> Any:
        """The test images; a line says how many of them the network was trained on."""
        is_trained = torch.isin(find_hashes(self.test_dataset), self.trained_hashes)
        if num := int(is_trained.sum()):
            print_line(f"The network was trained on {num:,} of {len(is_trained):,} test images")
        return super().test_dataloader()

    predict_dataloader = test_dataloader

    @override
    def _loader(self, split: str, dataset: TensorImageDataset) -> DataLoader[Batch]:
        """Yields batches whose labels are the positions of their classes in the network."""
        labels = match_labels(dataset.labels, self.classes, self.class_names)
        if missing := find_missing(labels, self.class_names):
            print_line(f"There is no {split} image of {missing}")
        loader = super()._loader(split, TensorImageDataset(dataset.images, labels))
        loader.dataset.classes = self.class_names  # type: ignore[attr-defined]
        return loader

    @property
    def class_names(self) -> Sequence[str]:
        """The classes of the network if there is one, or those of the data."""
        module = getattr(self.trainer, "lightning_module", None)
        return getattr(module, "classes", self.classes)

    @override
    def exclude_trained(self, state: dict[str, Any]) -> None:
        if "trained_hashes" in state:  # not of Fashion-MNIST
            self.trained_hashes = torch.unique(
                torch.cat([self.trained_hashes, state["trained_hashes"]])
            )

    @override
    def state_dict(self) -> dict[str, Any]:
        """The hashes and labels of the training images, for the checkpoint."""
        state = {"trained_hashes": self.trained_hashes}
        if hasattr(self, "train_dataset"):
            labels = self.train_dataset.labels
            state["train_hashes"] = find_hashes(self.train_dataset)
            state["train_labels"] = match_labels(labels, self.classes, self.class_names)
        return state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for a run that is resumed with other training images."""
        self.exclude_trained(state_dict)
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        state = self.state_dict()
        for name in ("train_hashes", "train_labels"):
            if not torch.equal(state[name], state_dict[name]):
                raise ValueError(
                    f"the training images are not the {len(state_dict[name]):,} of the run: use "
                    "the same ones, or begin a new run from its weights with --ckpt_path best.ckpt"
                )


def hash_bytes(content: bytes) -> int:
    """The first 64 bits of the SHA-256, signed, as an int64 tensor holds them."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def find_hashes(dataset: TensorImageDataset) -> Tensor:
    """The hashes of images, int64, shape (N,): those of their files, or of their pixels."""
    if dataset.hashes is None:
        hashes = [hash_bytes(image.tobytes()) for image in dataset.images.numpy()]
        dataset.hashes = torch.tensor(hashes, dtype=torch.int64)
    return dataset.hashes


def split_hashes(hashes: Tensor, val_size: float, split_seed: int) -> Tensor:
    """Which images are for validation, bool, shape (N,), by their hashes, int64, shape (N,)."""
    mixed = [hash_bytes(f"{split_seed} {value}".encode()) for value in hashes.tolist()]
    return torch.tensor([value / 2**64 + 0.5 < val_size for value in mixed], dtype=torch.bool)


def match_labels(labels: Tensor, names: Sequence[str], expected: Sequence[str]) -> Tensor:
    """Labels, positions in ``names``, as the positions of the same names in ``expected``."""
    positions = [expected.index(name) if name in expected else -1 for name in names]
    check_labels(labels, len(names))
    matched = torch.tensor(positions)[labels]
    if unknown := {names[label] for label in labels[matched < 0].tolist()}:
        raise ValueError(
            f"the data has the classes {', '.join(names)}, and the network has "
            f"{', '.join(expected)}: it does not know {', '.join(sorted(unknown))}. For a new one, "
            "leave --ckpt_path out, or in a script give FashionClassifier(classes=data.classes)"
        )
    return matched


def find_missing(labels: Tensor, names: Sequence[str]) -> str:
    """The names of the classes without images."""
    nums = labels.bincount(minlength=len(names)).tolist()
    return ", ".join(name for name, num in zip(names, nums, strict=True) if not num)
