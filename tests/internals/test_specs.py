import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from fmnist_lightning import MLP
from fmnist_lightning.internals.specs import check_spec, flatten, from_spec, to_spec


def test_there_and_back() -> None:
    spec = to_spec(functools.partial(MLP, hidden_dim=5))
    assert spec == {"class_path": "fmnist_lightning.models.cnn.MLP", "init_args": {"hidden_dim": 5}}
    assert from_spec(spec)().layers[1].out_features == 5
    optimizer = to_spec(functools.partial(AdamW, lr=0.5, betas=(1, 2)))
    assert optimizer["class_path"] == "torch.optim.adamw.AdamW"
    assert optimizer["init_args"] == {"lr": 0.5, "betas": [1, 2]}


def test_what_cannot_be_written_down_is_refused() -> None:
    class Local(nn.Module):
        pass

    for factory in (lambda: MLP(), Local, functools.partial(Local)):
        with pytest.raises(ValueError, match="cannot write down how to build"):
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
def test_strangers_are_refused(spec: object) -> None:
    with pytest.raises(ValueError, match=r"names the class|expected a class_path"):
        from_spec(spec)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "class_path", ["torch.nn.Nothing", "torch.nn.nothing.Here", "torch.nn.utils.clip_grad_norm_"]
)
def test_only_networks_and_optimisers_are_built(class_path: str) -> None:
    with pytest.raises(ValueError, match=r"cannot import|neither an nn\.Module nor|is not a class"):
        from_spec({"class_path": class_path})


def test_a_stranger_can_be_trusted_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stranger_a.py").write_text("from torch import nn\nclass Net(nn.Linear): ...\n")
    spec = {"class_path": "stranger_a.Net", "init_args": {"in_features": 2, "out_features": 3}}
    with pytest.raises(ValueError, match=r"stranger_a\.Net.*trust"):
        from_spec(spec)
    assert from_spec(spec, trusted=["stranger_a.Net"])().out_features == 3


class Picky(nn.Module):
    """Has arguments of all kinds."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        name: Literal["a", "b"] = "a",
        path: "str | None" = None,
        sizes: Sequence[int] = (),
        shares: dict[str, list[float]] | None = None,
        activation: str | Callable[[float], float] = "relu",
        layer: nn.Module | None = None,
        function: Callable[..., Any] = dataclasses.astuple,
        anything: Any = None,
        untyped=None,
    ) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("name", "b", True),
        ("path", "weights.pth", True),
        ("sizes", [1, 2], True),
        ("shares", {"x": [0.5]}, True),
        ("activation", "relu", True),  # as it is anyway
        ("function", "dataclasses.astuple", True),
        ("anything", 1, True),
        ("layer", None, True),
        ("activation", "os.abort", False),
        ("activation", '{"class_path": "os.abort"}', False),
        ("layer", {"class_path": "os.abort"}, False),
        ("function", "os.abort", False),
        ("anything", {"class_path": "os.abort"}, False),
        ("anything", [{"class_path": "os.abort"}], False),
        ("untyped", "os.abort", False),
        ("unknown", "os.abort", False),
    ],
)
def test_no_argument_can_stand_for_code(argument: str, value: Any, allowed: bool) -> None:
    spec = {"class_path": "test_specs.Picky", "init_args": {argument: value}}
    if allowed:
        assert check_spec(spec, ["test_specs.Picky"]).__name__ == "Picky"
        return
    with pytest.raises(ValueError, match=rf"{argument} of test_specs\.Picky is .*for code"):
        check_spec(spec, ["test_specs.Picky"])
    if argument == "activation":  # nor is a run begun whose checkpoint could not be read
        with pytest.raises(ValueError, match="for code"):
            to_spec(functools.partial(Picky, activation=value))


def test_flatten() -> None:
    nested = {"a": {"b": 1, "c": None, "d": {"e": "x"}}, "f": [1, 2]}
    assert flatten(nested) == {"a.b": 1, "a.d.e": "x", "f": "[1, 2]"}
