from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST

from fmnist_lightning.dataset import CLASSES, PictureDataset, read_dataset, split_indices
from fmnist_lightning.sources import raw_folder


def test_class_names_are_torchvisions() -> None:
    assert list(CLASSES) == FashionMNIST.classes


def test_reads_what_torchvision_reads(data_dir: Path) -> None:
    for train in (True, False):
        ours = read_dataset(raw_folder(data_dir), train=train)
        theirs = FashionMNIST(str(data_dir), train=train)
        assert torch.equal(ours.images, theirs.data)
        assert torch.equal(ours.labels, theirs.targets)
        assert ours.images.dtype == torch.uint8


def test_a_loader_takes_a_batch_in_one_read() -> None:
    class Counting(PictureDataset):
        reads = 0

        def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            self.reads += 1
            return super().__getitems__(indices)

    dataset = Counting(torch.arange(10).view(10, 1, 1).expand(10, 28, 28), torch.arange(10))
    batches = list(DataLoader(dataset, batch_size=4, collate_fn=lambda batch: batch))
    assert [labels.tolist() for _, labels in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.equal(batches[1][0][:, 0, 0], torch.tensor([4, 5, 6, 7]))
    assert dataset.reads == 3


def test_pictures_and_labels_must_match() -> None:
    with pytest.raises(ValueError, match="3 pictures but 2 labels"):
        PictureDataset(torch.zeros(3, 28, 28), torch.zeros(2))


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
