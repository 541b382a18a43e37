import functools
import gzip
import http.server
import logging
import multiprocessing
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import as_data_files

from fmnist_lightning import sources
from fmnist_lightning.sources import DataError, fetch

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


class Server:
    """A real web server on this machine that serves a folder and counts what it was asked for."""

    def __init__(self, folder: Path, delay: float = 0) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                time.sleep(delay)
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(packed: Path) -> Iterator[Server]:
    server = Server(packed)
    yield server
    server.server.shutdown()
    server.server.server_close()


def check(raw: Path, files: dict[str, bytes]) -> None:
    assert {name: (raw / name).read_bytes() for name in files} == files


def test_a_good_folder_is_left_alone(data_dir: Path, tiny_files: dict[str, bytes]) -> None:
    raw = sources.raw_folder(data_dir)
    before = {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]}
    assert fetch(data_dir) == raw
    # Not even a lock was made, so a folder that can't be written would have done.
    assert {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]} == before


def test_downloads_from_a_mirror(
    server: Server,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sources, "MIRRORS", (server.url,))
    raw = fetch("data")
    check(raw, tiny_files)
    assert sorted(server.asked) == sorted(f"/{name}.gz" for name in tiny_files)
    assert IMAGES in capsys.readouterr().err  # the progress bar
    assert {path.name for path in raw.iterdir()} <= {*tiny_files, ".lock"}  # nothing half-written


def test_goes_on_to_the_next_mirror(
    server: Server, packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (packed / "wrong").mkdir()
    # The first is gone, the second serves another data set under the same names.
    for name in tiny_files:
        (packed / "wrong" / f"{name}.gz").write_bytes(
            gzip.compress(b"MNIST" + tiny_files[name][5:])
        )
    mirrors = (f"{server.url}gone/", f"{server.url}wrong/", server.url)
    monkeypatch.setattr(sources, "MIRRORS", mirrors)
    check(fetch("data"), tiny_files)
    assert server.asked[:2] == [f"/gone/{IMAGES}.gz", f"/wrong/{IMAGES}.gz"]


def test_gives_a_silent_mirror_up(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Server(packed, delay=3)
    monkeypatch.setattr(sources, "MIRRORS", (silent.url,))
    monkeypatch.setattr(sources, "TIMEOUT", 0.1)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1.*timed out"):
        fetch("data")
    assert time.monotonic() - start < 2
    silent.server.shutdown()
    silent.server.server_close()


def test_unpacks_what_lies_in_the_folder(packed: Path, tiny_files: dict[str, bytes]) -> None:
    raw = sources.raw_folder("data")
    shutil.copytree(packed, raw)
    check(fetch("data"), tiny_files)


def test_takes_the_installed_debian_package(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", packed)
    check(fetch("data"), tiny_files)


@pytest.mark.parametrize("damage", ["truncated", "swapped", "one bit", "a folder"])
def test_sets_a_bad_file_aside_and_replaces_it(
    damage: str,
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", packed)
    file = sources.raw_folder(data_dir) / IMAGES
    good = tiny_files[IMAGES]
    bad = {
        "truncated": good[:1000],
        "swapped": tiny_files["t10k-images-idx3-ubyte"],
        "one bit": good[:-1] + bytes([good[-1] ^ 1]),
        "a folder": b"",
    }[damage]
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    else:
        file.write_bytes(bad)
    with caplog.at_level(logging.WARNING):
        check(fetch(data_dir), tiny_files)
    assert str(file) in caplog.text
    aside = file.with_name(f"{IMAGES}.bad-1")
    assert aside.is_dir() if damage == "a folder" else aside.read_bytes() == bad
    # A second accident does not cost the first one's file.
    shutil.copy(file.with_name(LABELS), file)
    fetch(data_dir)
    assert aside.exists()
    assert file.with_name(f"{IMAGES}.bad-2").exists()


def test_leaves_a_bad_file_where_it_is_if_there_is_no_good_one(data_dir: Path) -> None:
    file = sources.raw_folder(data_dir) / IMAGES
    file.write_bytes(b"bad")
    with pytest.raises(DataError, match=IMAGES):
        fetch(data_dir)
    assert file.read_bytes() == b"bad"


def test_says_what_was_tried_where_everything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = ("http://127.0.0.1:9/", "http://no.such.host.invalid/")
    monkeypatch.setattr(sources, "MIRRORS", mirrors)
    with pytest.raises(DataError) as caught:
        fetch("data")
    text = str(caught.value)
    assert all(name in text for name in (IMAGES, *mirrors, "refused", "no apt-get", "by hand"))
    assert str(sources.raw_folder("data")) in text


def test_says_why_apt_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\necho 'E: no route' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(apt.parent), prepend=":")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(DataError, match="apt-get: E: no route"):
        fetch("data")


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*--data\.data_dir"):
        fetch(tmp_path / "file")


def test_a_bomb_does_not_fill_the_memory() -> None:
    assert len(sources._unpack(gzip.compress(bytes(10**7)), size=100)) == 101


def _fetch_elsewhere(files: dict[str, bytes], url: str, folder: str) -> None:
    sources.FILES = as_data_files(files)
    sources.MIRRORS = (url,)
    fetch(folder)


def test_two_processes_at_once(packed: Path, tiny_files: dict[str, bytes], tmp_path: Path) -> None:
    slow = Server(packed, delay=0.3)
    context = multiprocessing.get_context("spawn")
    arguments = (tiny_files, slow.url, str(tmp_path / "data"))
    processes = [context.Process(target=_fetch_elsewhere, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    check(sources.raw_folder(tmp_path / "data"), tiny_files)
    assert len(slow.asked) == 4  # the second waited for the first, and had nothing left to do
    slow.server.shutdown()
    slow.server.server_close()


@pytest.mark.slow
@pytest.mark.real
def test_the_debian_package_is_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("apt-get"):
        pytest.skip("this system has no apt-get")
    monkeypatch.setattr(sources, "MIRRORS", ())
    try:
        raw = fetch("data")
    except DataError as error:
        pytest.skip(str(error))
    assert sources._faults(raw) == {}
