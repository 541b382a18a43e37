import functools

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from fmnist_lightning import MLP
from fmnist_lightning.internals.specs import find_untrusted, from_spec, resolve, to_spec


def test_spec_round_trip():
    spec = to_spec(functools.partial(MLP, hidden_dim=5))
    init_args = {"hidden_dim": 5, "num_classes": 10}  # with defaults, as the command line has them
    assert spec == {"class_path": "fmnist_lightning.MLP", "init_args": init_args}
    assert from_spec(spec)().features[1].out_features == 5
    optimizer = to_spec(functools.partial(AdamW, lr=0.5, betas=(1, 2)))
    assert optimizer["class_path"] == "torch.optim.AdamW"
    assert optimizer["init_args"].items() >= {"lr": 0.5, "betas": [1, 2], "eps": 1e-8}.items()


class Picky(nn.Module):
    """Takes text where a class could be meant."""

    def __init__(self, activation="relu"):
        super().__init__()
        self.activation = activation


@pytest.mark.parametrize("value", ["gelu", "os.abort", ["os.abort"], {"a": "os.abort"}, 1.5])
def test_argument_is_passed_as_data_and_never_imported(value):
    spec = to_spec(functools.partial(Picky, activation=value))
    assert from_spec(spec, [spec["class_path"]])().activation == value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (nn.GELU, {"class_path": "torch.nn.GELU"}),
        (nn.functional.relu, {"class_path": "torch.nn.functional.relu"}),
        (
            functools.partial(nn.LeakyReLU, 0.2),
            {
                "class_path": "torch.nn.LeakyReLU",
                "init_args": {"negative_slope": 0.2, "inplace": False},
            },
        ),
        ([nn.ReLU, 3], [{"class_path": "torch.nn.ReLU"}, 3]),
        ({"act": nn.ReLU}, {"act": {"class_path": "torch.nn.ReLU"}}),
    ],
    ids=["class", "function", "partial", "list", "dict"],
)
def test_argument_that_is_a_class_or_function(value, stored):
    spec = to_spec(functools.partial(Picky, activation=value))
    assert spec["init_args"] == {"activation": stored}
    restored = from_spec(spec, [spec["class_path"]])
    assert to_spec(restored) == spec
    activation = restored().activation
    if isinstance(value, functools.partial):
        assert activation().negative_slope == 0.2
    else:
        assert activation == value


def test_what_cannot_be_rebuilt_is_refused():
    class Local(nn.Module):
        pass

    partial = functools.partial
    values = [lambda x: x, nn.LeakyReLU(0.2), {"class_path": "torch.nn.ReLU"}, torch.tensor(0.5)]
    factories = [lambda: MLP(), Local, partial(Local)]
    for factory in factories + [partial(Picky, activation=value) for value in values]:
        with pytest.raises(ValueError, match=r"a checkpoint can't store .*; it can store numbers"):
            to_spec(factory)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.abort", "names the class os.abort"),
        ("fmnist_lightning_evil.Network", "names the class fmnist_lightning_evil.Network"),
        ("torch.nn", "names the class torch.nn"),
        ("torch.nn.Nothing", "cannot import torch.nn.Nothing"),
        ("torch.nn.nothing.Here", "cannot import torch.nn.nothing.Here"),
        ("torch.nn.functional.handle_torch_function", "neither an nn.Module nor"),
        ("torch.nn.functional.importlib", "neither an nn.Module nor"),
        ("torch.nn.init.kaiming_normal_", "neither an nn.Module nor"),
        (["os.abort"], "names the class .'os.abort'.*trust"),
    ],
)
def test_class_outside_the_allow_list_is_refused_at_any_depth(path, message):
    spec = {"class_path": path, "init_args": {}}
    transformer = {"class_path": "torch.nn.Transformer", "init_args": {"custom_encoder": spec}}
    for data in (spec, {"class_path": path}, [{"x": spec}], transformer):
        with pytest.raises(ValueError, match=message):
            from_spec(data)


def test_classes_that_need_trust_are_named():
    gelu, other = {"class_path": "torch.nn.GELU"}, {"class_path": "d.E"}
    arguments = {"a": [{"class_path": "b.C", "init_args": {"x": gelu}}], "y": ({"z": other},)}
    spec = {"class_path": "f.G", "init_args": arguments}
    assert list(find_untrusted(spec)) == ["f.G", "b.C", "d.E"]


def make_network(width, depth=1, **others):
    return nn.Linear(width, depth, **others)


def test_function_that_builds_a_network():
    spec = to_spec(functools.partial(make_network, 3, bias=False))
    path = f"{__name__}.make_network"
    assert spec == {"class_path": path, "init_args": {"width": 3, "depth": 1, "bias": False}}
    with pytest.raises(ValueError, match=f"names the class {path}"):
        from_spec(spec)
    assert from_spec(spec, [path])().in_features == 3


@pytest.mark.parametrize("factory", [MLP, functools.partial(MLP, num_classes=10), to_spec(MLP)])
def test_resolve_sets_the_number_of_classes(factory):
    network, spec = resolve(factory, num_classes=3)
    init_args = {"hidden_dim": 128, "num_classes": 3}
    assert spec == {"class_path": "fmnist_lightning.MLP", "init_args": init_args}
    assert network()(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    assert resolve(nn.Flatten, num_classes=3) == (nn.Flatten, to_spec(nn.Flatten))


@pytest.mark.parametrize("key", ["dict_kwargs", "_instantiator", "args"])
def test_spec_with_other_keys_is_refused(key):
    with pytest.raises(ValueError, match="expected a class_path with init_args"):
        from_spec({"class_path": "torch.nn.Flatten", "init_args": {}, key: {}})
