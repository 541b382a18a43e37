import functools
from pathlib import Path

import pytest
from conftest import TINY
from processes import limit_file_size, start

from fmnist_lightning.internals.files import atomic_write


def test_atomic_write_replaces_the_file_only_when_complete():
    target = Path("file")
    target.write_bytes(b"old")
    with atomic_write(target) as stream:
        stream.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    with pytest.raises(TypeError), atomic_write(target) as stream:
        stream.writelines([b"half", None])
    assert [(path.name, path.read_bytes()) for path in Path().iterdir()] == [("file", b"new")]


def test_rename_that_windows_refuses_for_a_moment_is_tried_again(monkeypatch):
    original, refusals = Path.replace, [PermissionError("a virus scanner has it open")]

    def replace(self, target):
        if refusals:
            raise refusals.pop()
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with atomic_write(Path("file")) as stream:
        stream.write(b"new")
    assert [(path.name, path.read_bytes()) for path in Path().iterdir()] == [("file", b"new")]


@pytest.mark.fault("disk")
@pytest.mark.usefixtures("data_dir")
def test_full_disk_is_reported_at_the_start():
    process = start("fit", *TINY, first=functools.partial(limit_file_size, 50_000))
    assert process.wait() == 1
    output = process.output.read_text()
    assert output.splitlines()[-1].startswith("error: [Errno 27] File too large")
    assert "Traceback" not in output
    assert "\nepoch" not in output


@pytest.mark.fault("disk")
@pytest.mark.usefixtures("data_dir")
def test_unwritable_folder_is_reported_at_the_start():
    # Not even root can write there.
    process = start("fit", *TINY, "--trainer.default_root_dir", "/proc/runs")
    assert process.wait() == 1
    assert process.output.read_text().splitlines()[-1].startswith("error: [Errno 2] No such file")
