import functools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW

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


@pytest.mark.parametrize("key", ["dict_kwargs", "_instantiator", "args"])
def test_spec_with_other_keys_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="expected a class_path with init_args"):
        from_spec({"class_path": "torch.nn.Flatten", "init_args": {}, key: {}})


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": None, "d": {"e": "x"}}, "f": [1, 2]}
    assert flatten(nested) == {"a.b": 1, "a.d.e": "x", "f": "[1, 2]"}
