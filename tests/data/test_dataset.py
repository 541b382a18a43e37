import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import FashionMNIST

from fmnist_lightning.data.dataset import (
    CLASSES,
    Batch,
    DistributedBatchSampler,
    TensorImageDataset,
    global_seed,
    read_dataset,
    split_indices,
)
from fmnist_lightning.data.download import raw_folder

U8 = torch.zeros(3, 28, 28, dtype=torch.uint8)


def test_class_names_are_torchvisions() -> None:
    assert list(CLASSES) == FashionMNIST.classes


def test_reads_what_torchvision_reads(data_dir: Path) -> None:
    for train in (True, False):
        ours = read_dataset(raw_folder(data_dir), train=train)
        theirs = FashionMNIST(str(data_dir), train=train)
        assert torch.equal(ours.images, theirs.data)
        assert torch.equal(ours.labels, theirs.targets)
        assert ours.images.dtype == torch.uint8


def make(num: int) -> TensorImageDataset:
    """Pictures that show their own number."""
    images = torch.arange(num, dtype=torch.uint8).view(num, 1, 1).expand(num, 28, 28)
    return TensorImageDataset(images, torch.arange(num) % 10)


def test_a_picture_or_a_batch() -> None:
    dataset = make(10)
    image, label = dataset[4]
    assert (image.shape, int(image[0, 0]), int(label)) == ((28, 28), 4, 4)
    images, labels = dataset[torch.tensor([7, 2])]
    assert (images.shape, images[:, 0, 0].tolist(), labels.tolist()) == (
        (2, 28, 28),
        [7, 2],
        [7, 2],
    )


def test_a_loader_takes_a_batch_in_one_read() -> None:
    class Counting(TensorImageDataset):
        reads = 0

        def __getitem__(self, index: int | Tensor) -> Batch:
            self.reads += 1
            return super().__getitem__(index)

    dataset = Counting(*make(10)[torch.arange(10)])
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=DistributedBatchSampler(dataset, batch_size=4, shuffle=False),
        collate_fn=lambda batch: batch,
    )
    assert len(loader) == 3
    assert [labels.tolist() for _, labels in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert dataset.reads == 3


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 16])
def test_shuffled_shares_are_torchs(num_replicas: int) -> None:
    dataset = make(7)
    for rank in range(num_replicas):
        ours = DistributedBatchSampler(dataset, 2, True, 5, num_replicas, rank)
        theirs: DistributedSampler[Batch] = DistributedSampler(
            dataset, num_replicas, rank, shuffle=True, seed=5
        )
        for epoch in (0, 3):
            ours.set_epoch(epoch)
            theirs.set_epoch(epoch)
            batches = list(ours)
            assert torch.cat(batches).tolist() == list(theirs)
            assert len(batches) == len(ours)


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 16])
def test_shares_in_order_show_each_picture_once(num_replicas: int) -> None:
    shares = [
        [index for batch in sampler for index in batch.tolist()]
        for sampler in (
            DistributedBatchSampler(make(7), 2, False, num_replicas=num_replicas, rank=rank)
            for rank in range(num_replicas)
        )
    ]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert shares[0] == list(range(0, 7, num_replicas))


def test_batches_are_cut_where_the_pictures_are() -> None:
    meta = torch.device("meta")  # stands for any device that is not the CPU
    dataset = make(10).to(meta)
    index = next(iter(DistributedBatchSampler(dataset, batch_size=4, shuffle=True)))
    images, labels = dataset[index]
    assert index.device == images.device == labels.device == meta
    assert images.shape == (4, 28, 28)
    assert dataset.to(meta) is dataset


@pytest.mark.parametrize(
    ("images", "labels", "got"),
    [
        (torch.zeros(3, 28, 28), torch.arange(3), "torch.float32 (3, 28, 28) and torch.int64 (3,)"),
        (U8.view(-1, 1, 28, 28), torch.arange(3), "torch.uint8 (3, 1, 28, 28) and torch.int64"),
        (U8, torch.arange(2), "torch.uint8 (3, 28, 28) and torch.int64 (2,)"),
        (U8, torch.arange(3).view(3, 1), "and torch.int64 (3, 1)"),
        (U8, torch.arange(3.0), "and torch.float32 (3,)"),
        (U8, torch.tensor([0, -2, 1]), "labels must be at least 0, not -2"),
    ],
)
def test_images_and_labels_of_other_types_are_refused(
    images: Tensor, labels: Tensor, got: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(got)):
        TensorImageDataset(images, labels)


def test_the_split_shares_nothing_and_loses_nothing() -> None:
    train, val = split_indices(60_000, 48_000, 12_000, seed=0)
    assert (len(train), len(val)) == (48_000, 12_000)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(60_000))


def test_the_split_depends_on_its_seed_alone() -> None:
    one = split_indices(100, 80, 20, seed=1)
    torch.manual_seed(5)
    assert torch.equal(one[0], split_indices(100, 80, 20, seed=1)[0])
    assert not torch.equal(one[0], split_indices(100, 80, 20, seed=2)[0])


def test_less_training_leaves_the_validation_part() -> None:
    full, few = split_indices(100, 80, 20, seed=1), split_indices(100, 30, 20, seed=1)
    assert torch.equal(full[1], few[1])
    assert torch.equal(full[0][:30], few[0])


@pytest.mark.parametrize(("train", "val"), [(81, 20), (0, 20), (80, 0)])
def test_a_split_that_does_not_fit_is_refused(train: int, val: int) -> None:
    with pytest.raises(ValueError, match=f"train_size {train} and val_size {val}"):
        split_indices(100, train, val, seed=0)


@pytest.mark.parametrize(("value", "seed"), [(None, None), ("", None), ("0", 0), ("42", 42)])
def test_global_seed_is_that_of_seed_everything(
    value: str | None, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("PL_GLOBAL_SEED", value)
    assert global_seed() == seed
