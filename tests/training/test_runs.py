import os
import shutil
from pathlib import Path

import pytest

from fmnist_lightning.training import runs


def make_run(name: str, content: str = "weights") -> Path:
    folder = Path("runs", name)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    for checkpoint in ("best.ckpt", "last.ckpt"):
        (folder / "checkpoints" / checkpoint).write_text(f"{content} {checkpoint}")
    return folder


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that allows no symbolic links."""

    def refuse(self: Path, target: str) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_each_run_has_a_folder_of_its_own() -> None:
    folders = {runs.create_run_dir(Path("runs")) for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() for folder in folders)


def test_latest_run() -> None:
    with pytest.raises(ValueError, match="no run to continue"):
        runs.latest_run_dir(Path("runs"))
    make_run("b")
    os.utime("runs/b/checkpoints/last.ckpt", (1, 1))
    make_run("a")
    (make_run("c") / "checkpoints" / "last.ckpt").unlink()  # nothing to continue from
    assert runs.latest_run_dir(Path("runs")) == Path("runs/a")


def test_run_of() -> None:
    folder = make_run("a").resolve()
    make_run("b", "other weights")
    best = folder / "checkpoints" / "best.ckpt"
    Path("link.ckpt").symlink_to(best)
    shutil.copy(best, "copy.ckpt")
    Path("alone.ckpt").write_text("from elsewhere")
    root = Path("runs").resolve()
    assert runs.find_run_dir(best, Path("nowhere")) == folder
    assert runs.find_run_dir(Path("link.ckpt"), root) == folder
    assert runs.find_run_dir(Path("copy.ckpt"), root) == folder
    assert runs.find_run_dir(Path("alone.ckpt"), root) is None


def test_best_is_a_link_to_the_latest() -> None:
    for name in ("a", "b"):
        best = make_run(name, name) / "checkpoints" / "best.ckpt"
        runs.check_overwrite(Path("runs"))
        runs.link_best(best)
        assert os.readlink("best.ckpt") == str(best)
    shutil.rmtree("runs/b")
    runs.check_overwrite(Path("runs"))  # a link of ours, though it leads nowhere now


@pytest.mark.usefixtures("no_links")
def test_best_is_a_copy_where_there_are_no_links() -> None:
    for name in ("a", "b", "b"):
        best = Path("runs", name, "checkpoints", "best.ckpt")
        if not best.exists():
            make_run(name, name)
        runs.check_overwrite(Path("runs"))
        runs.link_best(best)
        assert not Path("best.ckpt").is_symlink()
        assert Path("best.ckpt").read_text() == best.read_text()
    assert sorted(path.name for path in Path().iterdir()) == ["best.ckpt", "runs"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_ours_is_not_replaced(kind: str) -> None:
    make_run("a")
    if kind == "file":
        Path("best.ckpt").write_text("precious")
    elif kind == "folder":
        Path("best.ckpt").mkdir()
    else:
        Path("best.ckpt").symlink_to("precious.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt is not from a fit in this folder"):
        runs.check_overwrite(Path("runs"))
