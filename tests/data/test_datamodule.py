from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_labels
from lightning.pytorch import seed_everything

from fmnist_lightning import FashionMNISTDataModule


def make(stage="fit", world=(0, 1), device="cpu", **kwargs):
    """A data module set up for a stage, on rank ``world[0]`` of ``world[1]``."""
    arguments = {"train_size": 480, "val_size": 120, "batch_size": 50} | kwargs
    data = FashionMNISTDataModule(**arguments)
    data.trainer = SimpleNamespace(
        global_rank=world[0],
        world_size=world[1],
        lightning_module=None,
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )
    data.prepare_data()
    data.setup(stage)
    return data


def order(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return [images.flatten(1) for images, _ in loader]


def test_loaders_give_uint8_batches_of_the_split(data_dir):
    data = make()
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((50, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((50,), torch.int64)
    assert [len(labels) for _, labels in data.train_dataloader()] == [50] * 9 + [30]
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 120
    data.setup("test")
    assert torch.equal(next(iter(data.test_dataloader()))[1], tiny_labels(105))


@pytest.mark.usefixtures("data_dir")
def test_order_depends_only_on_seed_and_epoch():
    seed_everything(3)
    first = torch.cat(order(make().train_dataloader()))
    torch.rand(7)  # the state of the global generator must not matter
    assert torch.equal(first, torch.cat(order(make().train_dataloader())))
    assert not torch.equal(first, torch.cat(order(make().train_dataloader(), epoch=1)))
    seed_everything(4)
    assert not torch.equal(first, torch.cat(order(make().train_dataloader())))


@pytest.mark.usefixtures("data_dir")
def test_batch_size_not_divisible_by_the_ranks_is_refused():
    with pytest.raises(ValueError, match=r"batch_size 50 .* choose a multiple of 3"):
        make(world=(0, 3)).train_dataloader()


@pytest.mark.usefixtures("data_dir")
def test_loaders_slice_batches_on_the_device():
    data = make(device="meta")  # stands for a GPU
    images, labels = next(iter(data.train_dataloader()))
    assert (images.device.type, images.dtype, images.shape) == ("meta", torch.uint8, (50, 28, 28))
    assert labels.device.type == "meta"
    assert data.train_dataset.images.device.type == "cpu"
    loaders = data.val_dataloader(), make().val_dataloader()
    assert [loader.sampler.batch_size for loader in loaders] == [1_000, 250]


@pytest.mark.fault("bad_settings")
@pytest.mark.parametrize(
    ("argument", "value"),
    [("batch_size", 0), ("batch_size", None), ("eval_batch_size", -1), ("split_seed", -1)],
)
def test_arguments_out_of_range_are_refused_by_name(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be at least ., not {value}"):
        FashionMNISTDataModule(**{argument: value})


@pytest.mark.usefixtures("data_dir")
def test_fewer_images_than_devices_are_refused():
    data = make(world=(0, 50), val_size=20)
    with pytest.raises(ValueError, match="20 val images are fewer than 50 devices"):
        data.val_dataloader()


@pytest.mark.usefixtures("data_dir")
def test_images_that_a_script_has_set_are_kept():
    data = make()
    data.train_dataset = data.train_dataset.subset(torch.arange(7))
    data.setup("fit")
    assert len(data.train_dataset) == 7
