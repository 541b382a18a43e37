import errno
import fcntl
import os
from pathlib import Path

import pytest

from fmnist_lightning.runs import runs


def make_run(name):
    run_dir = Path("runs", name)
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.yaml").touch()
    for checkpoint in ("best.ckpt", "last.ckpt"):
        (run_dir / "checkpoints" / checkpoint).touch()
    return run_dir


def test_latest_checkpoint_is_the_newest_last_ckpt():
    with pytest.raises(ValueError, match="no run to resume"):
        runs.find_latest(Path("runs"))
    make_run("b")
    os.utime("runs/b/checkpoints/last.ckpt", (1, 1))
    make_run("a")
    (make_run("c") / "checkpoints" / "last.ckpt").unlink()  # nothing to resume from
    assert runs.find_latest(Path("runs")) == Path("runs/a/checkpoints/last.ckpt")


def test_find_run_dir_uses_the_path_or_the_stored_name():
    run_dir = make_run("a").resolve()
    best, root = run_dir / "checkpoints" / "best.ckpt", Path("runs").resolve()
    Path("link.ckpt").symlink_to(best)
    assert runs.find_run_dir(best, None, Path("nowhere")) == Path("runs/a")
    assert runs.find_run_dir(Path("link.ckpt"), None, root) == Path("runs/a")
    assert runs.find_run_dir(Path("copy.ckpt"), "a", root) == run_dir
    for other in (None, "b", "../a", str(run_dir), 3):
        assert runs.find_run_dir(Path("copy.ckpt"), other, root) is None


def test_file_system_without_locks_stops_nobody(monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOSYS, "no locks")

    run_dir = make_run("a")
    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with runs.lock(run_dir):  # no marker of the first one is in the way of the second
            pass
        assert "cannot lock runs/a ([Errno" in capsys.readouterr().out
