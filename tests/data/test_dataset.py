import pytest
import torch
from torch.utils.data import DistributedSampler
from torchvision.datasets import FashionMNIST

from fmnist_lightning.data.dataset import (
    CLASSES,
    DistributedBatchSampler,
    TensorImageDataset,
    read_dataset,
    split_indices,
)
from fmnist_lightning.data.download import raw_folder


def test_images_labels_and_classes_equal_torchvision(data_dir):
    for train in (True, False):
        ours = read_dataset(raw_folder(data_dir), train=train)
        theirs = FashionMNIST(str(data_dir), train=train)
        assert torch.equal(ours.images, theirs.data)
        assert torch.equal(ours.labels, theirs.targets)
        assert ours.images.dtype == torch.uint8
        assert list(CLASSES) == theirs.classes


def make_dataset(num):
    """Images whose pixels are all their own index."""
    images = torch.arange(num, dtype=torch.uint8).view(num, 1, 1).expand(num, 28, 28)
    return TensorImageDataset(images, torch.arange(num) % 10)


def test_index_of_one_image_or_of_a_batch():
    dataset = make_dataset(10)
    image, label = dataset[4]
    assert (image.shape, int(image[0, 0]), int(label)) == ((28, 28), 4, 4)
    images, labels = dataset[torch.tensor([7, 2])]
    assert images.shape == (2, 28, 28)
    assert images[:, 0, 0].tolist() == labels.tolist() == [7, 2]


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 16])
def test_shuffled_order_equals_torch_on_each_rank(num_replicas):
    dataset = make_dataset(7)
    for rank in range(num_replicas):
        ours = DistributedBatchSampler(dataset, 2, True, 5, num_replicas, rank)
        theirs = DistributedSampler(dataset, num_replicas, rank, shuffle=True, seed=5)
        for epoch in (0, 3):
            ours.set_epoch(epoch)
            theirs.set_epoch(epoch)
            batches, expected = list(ours), list(theirs)
            # A last batch of one image, on which batch normalization fails, is left out.
            expected = expected[:-1] if len(expected) in (3, 7) else expected
            assert torch.cat(batches).tolist() == expected
            assert len(batches) == len(ours)


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 16])
def test_ranks_see_each_image_once_without_shuffling(num_replicas):
    dataset, seen = make_dataset(7), []
    for rank in range(num_replicas):
        indices = torch.cat(list(DistributedBatchSampler(dataset, 2, False, 0, num_replicas, rank)))
        assert indices.tolist() == list(range(rank, 7, num_replicas))
        seen += indices.tolist()
    assert sorted(seen) == list(range(7))


def test_order_is_that_of_the_epoch_set_before_the_first_batch():
    """Lightning resumes a run so."""
    sampler = DistributedBatchSampler(make_dataset(100), batch_size=100, shuffle=True)
    (first,) = sampler
    iterator = iter(sampler)
    sampler.set_epoch(2)
    (third,) = iterator
    assert torch.equal(third, next(iter(sampler)))
    assert not torch.equal(third, first)


def test_other_number_of_labels_is_refused():
    with pytest.raises(ValueError, match="there are 3 images, but 2 labels"):
        TensorImageDataset(torch.zeros(3, 28, 28, dtype=torch.uint8), torch.arange(2))


def test_split_is_disjoint_complete_and_depends_only_on_its_seed():
    train, val = split_indices(60_000, 48_000, 12_000, split_seed=0)
    assert (len(train), len(val)) == (48_000, 12_000)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(60_000))
    torch.manual_seed(5)
    assert torch.equal(train, split_indices(60_000, 48_000, 12_000, split_seed=0)[0])
    assert not torch.equal(train, split_indices(60_000, 48_000, 12_000, split_seed=2)[0])


def test_validation_part_is_independent_of_train_size():
    full, few = split_indices(100, 80, 20, split_seed=1), split_indices(100, 30, 20, split_seed=1)
    assert torch.equal(full[1], few[1])
    assert torch.equal(full[0][:30], few[0])


@pytest.mark.parametrize(("train", "val"), [(81, 20), (0, 20), (80, 0)])
def test_split_with_impossible_sizes_is_refused(train, val):
    with pytest.raises(ValueError, match=f"train_size {train} and val_size {val}"):
        split_indices(100, train, val, split_seed=0)
