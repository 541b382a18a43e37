import functools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torchvision.models import ResNet18_Weights, resnet18

from fmnist_lightning import MLP
from fmnist_lightning.internals.specs import flatten, from_spec, to_spec


def test_spec_round_trip() -> None:
    spec = to_spec(functools.partial(MLP, hidden_dim=5))
    assert spec == {"class_path": "fmnist_lightning.MLP", "init_args": {"hidden_dim": 5}}
    assert from_spec(spec)().features[1].out_features == 5
    optimizer = to_spec(functools.partial(AdamW, lr=0.5, betas=(1, 2)))
    assert optimizer["class_path"] == "torch.optim.AdamW"
    assert optimizer["init_args"] == {"lr": 0.5, "betas": [1, 2]}


def test_factory_that_cannot_be_stored_is_refused() -> None:
    class Local(nn.Module):
        pass

    for factory in (lambda: MLP(), Local, functools.partial(Local)):
        with pytest.raises(ValueError, match="can't store how to build"):
            to_spec(factory)
    with pytest.raises(ValueError, match=r"lr is tensor\(0\.5"):
        to_spec(functools.partial(AdamW, lr=torch.tensor(0.5)))


@pytest.mark.parametrize(
    "spec",
    [
        {"class_path": "os.system", "init_args": {}},
        {"class_path": "fmnist_lightning_evil.Network"},
        {"class_path": "torch.nn"},
        {"class_path": ["torch.nn.Linear"]},
        "torch.nn.Linear",
        None,
    ],
)
def test_class_outside_the_allow_list_is_refused(spec: object) -> None:
    with pytest.raises(ValueError, match=r"names the class|expected a class_path"):
        from_spec(spec)


@pytest.mark.parametrize(
    "class_path", ["torch.nn.Nothing", "torch.nn.nothing.Here", "torch.nn.utils.clip_grad_norm_"]
)
def test_only_modules_and_optimisers_are_built(class_path: str) -> None:
    with pytest.raises(ValueError, match=r"cannot import|neither an nn\.Module nor"):
        from_spec({"class_path": class_path})


def test_class_can_be_trusted_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "third_party_a.py").write_text("from torch import nn\nclass Net(nn.Linear): ...\n")
    spec = {"class_path": "third_party_a.Net", "init_args": {"in_features": 2, "out_features": 3}}
    with pytest.raises(ValueError, match=r"third_party_a\.Net.*trust"):
        from_spec(spec)
    assert from_spec(spec, trusted=["third_party_a.Net"])().out_features == 3


class Picky(nn.Module):
    """Takes text where a class could be meant."""

    def __init__(self, activation: object = "relu") -> None:
        super().__init__()
        self.activation = activation


@pytest.mark.parametrize(
    "value", ["gelu", "os.abort", {"class_path": "os.abort"}, [{"class_path": "os.abort"}], 1.5]
)
def test_argument_is_passed_as_data_and_never_imported(value: object) -> None:
    spec = to_spec(functools.partial(Picky, activation=value))
    assert from_spec(spec, [spec["class_path"]])().activation == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (nn.GELU, {"__class__": "torch.nn.GELU"}),
        (nn.functional.gelu, {"__class__": "torch.nn.functional.gelu"}),
        (nn.functional.relu, {"__class__": "torch.nn.functional.relu"}),
        (
            nn.LeakyReLU(0.2),
            {
                "__class__": "torch.nn.LeakyReLU",
                "init_args": {"negative_slope": 0.2, "inplace": False},
            },
        ),
        ([nn.ReLU, 3], [{"__class__": "torch.nn.ReLU"}, 3]),
        ({"act": nn.ReLU}, {"act": {"__class__": "torch.nn.ReLU"}}),
        (ResNet18_Weights.DEFAULT, "IMAGENET1K_V1"),
    ],
    ids=["class", "builtin function", "function", "module", "list", "dict", "enum"],
)
def test_argument_that_is_a_class_function_or_module(value: object, stored: object) -> None:
    spec = to_spec(functools.partial(Picky, activation=value))
    assert spec["init_args"] == {"activation": stored}
    found = from_spec(spec, [spec["class_path"]])().activation
    assert repr(found) == repr(stored if isinstance(stored, str) else value)


@pytest.mark.parametrize(
    "value",
    [lambda x: x, nn.Linear(2, 2), nn.Sequential(nn.ReLU()), {"__class__": "torch.nn.ReLU"}],
    ids=["lambda", "weights", "sequential", "mark"],
)
def test_argument_that_cannot_be_rebuilt_is_refused(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)activation is .*a checkpoint can store numbers, text"
    ):
        to_spec(functools.partial(Picky, activation=value))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.abort", "names the class os.abort"),
        ("torchvision.models._api.register_model", "neither an nn.Module nor"),
        ("torchvision.models.get_model", "neither an nn.Module nor"),
        ("torch.nn.functional.handle_torch_function", "neither an nn.Module nor"),
        ("torch.nn.functional.importlib", "neither an nn.Module nor"),
        ("torch.nn.init.kaiming_normal_", "neither an nn.Module nor"),
        (["os.abort"], "expected __class__ with init_args"),
    ],
)
@pytest.mark.parametrize("form", ["alone", "with arguments", "in a list", "in an argument"])
def test_marked_argument_outside_the_allow_list_is_refused(
    path: object, message: str, form: str
) -> None:
    value: object = {"__class__": path}
    if form == "with arguments":
        value = {"__class__": path, "init_args": {}}
    elif form == "in a list":
        value = [{"x": value}]
    elif form == "in an argument":
        value = {"__class__": "torch.nn.Transformer", "init_args": {"custom_encoder": value}}
    with pytest.raises(ValueError, match=message):
        from_spec({"class_path": "torch.nn.Flatten", "init_args": {"start_dim": value}})


def make_network(width: int, depth: int = 1, **others: bool) -> nn.Module:
    return nn.Linear(width, depth, **others)


def test_function_that_builds_a_network() -> None:
    spec = to_spec(functools.partial(make_network, 3, bias=False))
    path = f"{__name__}.make_network"
    assert spec == {"class_path": path, "init_args": {"width": 3, "bias": False}}
    with pytest.raises(ValueError, match=f"names the class {path}"):
        from_spec(spec)
    assert from_spec(spec, [path])().in_features == 3


def test_network_of_torchvision_is_built_without_its_weights() -> None:
    spec = to_spec(functools.partial(resnet18, weights=ResNet18_Weights.DEFAULT, num_classes=10))
    assert spec["class_path"] == "torchvision.models.resnet18"
    assert spec["init_args"] == {"weights": "IMAGENET1K_V1", "num_classes": 10}
    assert from_spec(spec)().fc.out_features == 10  # nothing is downloaded


@pytest.mark.parametrize("key", ["dict_kwargs", "_instantiator", "args"])
def test_spec_with_other_keys_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="expected a class_path with init_args"):
        from_spec({"class_path": "torch.nn.Flatten", "init_args": {}, key: {}})


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": None, "d": {"e": "x"}}, "f": [1, 2]}
    assert flatten(nested) == {"a.b": 1, "a.d.e": "x", "f": "[1, 2]"}
