from pathlib import Path

import pytest
import torch
from conftest import TINY

from fmnist_lightning.runs.run_checkpoint import check_best, link_best


def make_best(name):
    """The best checkpoint of a run in ``runs``."""
    path = Path("runs", name, "checkpoints", "best.ckpt")
    path.parent.mkdir(parents=True)
    hparams = {"network": {}, "optimizer": {}}
    torch.save({"state_dict": {}, "hyper_parameters": hparams, "run": name}, path)
    return path


@pytest.mark.parametrize("has_links", [True, False])
def test_best_ckpt_is_that_of_the_latest_run(has_links, monkeypatch):
    def refuse(self, target):
        raise OSError("A required privilege is not held by the client")

    if not has_links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    for name in ("a", "b"):
        best = make_best(name)
        check_best(Path("runs"))  # it may be that of an earlier run
        link_best(best)
        assert Path("best.ckpt").is_symlink() == has_links
        assert Path("best.ckpt").read_bytes() == best.read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "runs"]


def test_folder_without_write_permission_is_one_line(monkeypatch, capsys):
    def refuse(self, target):
        raise PermissionError("Permission denied")

    best = make_best("a")
    monkeypatch.setattr(Path, "replace", refuse)
    link_best(best)
    assert capsys.readouterr().out == (
        f"cannot write best.ckpt in the current folder (Permission denied); use {best}\n"
    )


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_foreign_best_ckpt_stops_fit_before_training(kind, refused):
    if kind == "file":
        Path("best.ckpt").write_text("precious")
    elif kind == "folder":
        Path("best.ckpt").mkdir()
    else:
        Path("best.ckpt").symlink_to("precious.ckpt")
    assert "best.ckpt is not from a fit in this folder" in refused("fit", *TINY)
