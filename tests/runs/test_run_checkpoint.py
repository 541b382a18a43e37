import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fmnist_lightning.runs.run_checkpoint import check_best, link_best


def make_best(name: str) -> Path:
    """The best checkpoint of a run in ``runs``."""
    path = Path("runs", name, "checkpoints", "best.ckpt")
    path.parent.mkdir(parents=True)
    hparams: dict[str, Any] = {"network": {}, "optimizer": {}}
    torch.save({"state_dict": {}, "hyper_parameters": hparams, "run": name}, path)
    return path


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without symbolic links."""

    def refuse(self: Path, target: str) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_best_ckpt_links_to_the_latest_run() -> None:
    for name in ("a", "b"):
        best = make_best(name)
        check_best(Path("runs"))
        link_best(best)
        assert os.readlink("best.ckpt") == str(best)
    shutil.rmtree("runs/b")
    check_best(Path("runs"))  # a link of ours, although it is broken now


@pytest.mark.usefixtures("no_links")
def test_best_ckpt_is_a_copy_without_symlinks() -> None:
    for name in ("a", "b"):
        best = make_best(name)
        check_best(Path("runs"))  # it may be the copy of an earlier run
        link_best(best)
        assert not Path("best.ckpt").is_symlink()
        assert Path("best.ckpt").read_bytes() == best.read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "runs"]


def test_folder_without_write_permission_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError("Permission denied")

    best = make_best("a")
    monkeypatch.setattr(Path, "replace", refuse)
    link_best(best)
    assert capsys.readouterr().out == (
        f"cannot write best.ckpt in the current folder (Permission denied); use {best}\n"
    )


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_foreign_best_ckpt_is_never_replaced(kind: str) -> None:
    make_best("a")
    if kind == "file":
        Path("best.ckpt").write_text("precious")
    elif kind == "folder":
        Path("best.ckpt").mkdir()
    else:
        Path("best.ckpt").symlink_to("precious.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is not from a fit in this folder"):
        check_best(Path("runs"))
