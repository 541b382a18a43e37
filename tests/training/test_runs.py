import os
import shutil
from pathlib import Path

import pytest

from fmnist_lightning.training import runs


def make_run(name: str, content: str = "weights") -> Path:
    run_dir = Path("runs", name)
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.yaml").touch()
    for checkpoint in ("best.ckpt", "last.ckpt"):
        (run_dir / "checkpoints" / checkpoint).write_text(f"{content} {checkpoint}")
    return run_dir


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without symbolic links."""

    def refuse(self: Path, target: str) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_create_run_dir_gives_a_new_run_dir_each_time() -> None:
    run_dirs = {runs.create_run_dir(Path("runs")) for _ in range(5)}
    assert len(run_dirs) == 5
    assert all(run_dir.is_dir() for run_dir in run_dirs)


def test_latest_run_dir_has_the_newest_last_checkpoint() -> None:
    with pytest.raises(ValueError, match="no run to resume"):
        runs.latest_run_dir(Path("runs"))
    make_run("b")
    os.utime("runs/b/checkpoints/last.ckpt", (1, 1))
    make_run("a")
    (make_run("c") / "checkpoints" / "last.ckpt").unlink()  # nothing to resume from
    assert runs.latest_run_dir(Path("runs")) == Path("runs/a")


def test_find_run_dir_uses_the_path_or_the_stored_name() -> None:
    run_dir = make_run("a").resolve()
    best, root = run_dir / "checkpoints" / "best.ckpt", Path("runs").resolve()
    Path("link.ckpt").symlink_to(best)
    assert runs.find_run_dir(best, {}, Path("nowhere")) == run_dir
    assert runs.find_run_dir(Path("link.ckpt"), {}, root) == run_dir
    assert runs.find_run_dir(Path("copy.ckpt"), {"run": "a"}, root) == run_dir
    for other in ({}, {"run": "b"}, {"run": "../a"}, {"run": str(run_dir)}, {"run": 3}):
        assert runs.find_run_dir(Path("copy.ckpt"), other, root) is None


def test_best_ckpt_links_to_the_latest_run() -> None:
    for name in ("a", "b"):
        best = make_run(name, name) / "checkpoints" / "best.ckpt"
        runs.check_overwrite()
        runs.link_best(best)
        assert os.readlink("best.ckpt") == str(best)
    shutil.rmtree("runs/b")
    runs.check_overwrite()  # a link of ours, although it is broken now


@pytest.mark.usefixtures("no_links")
def test_best_ckpt_is_a_copy_without_symlinks() -> None:
    for name in ("a", "b", "b"):
        best = Path("runs", name, "checkpoints", "best.ckpt")
        if not best.exists():
            make_run(name, name)
        runs.check_overwrite()
        runs.link_best(best)
        assert not Path("best.ckpt").is_symlink()
        assert Path("best.ckpt").read_text() == best.read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "runs"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_foreign_best_ckpt_is_never_replaced(kind: str) -> None:
    make_run("a")
    if kind == "file":
        Path("best.ckpt").write_text("precious")
    elif kind == "folder":
        Path("best.ckpt").mkdir()
    else:
        Path("best.ckpt").symlink_to("precious.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is not from a fit in this folder"):
        runs.check_overwrite()
