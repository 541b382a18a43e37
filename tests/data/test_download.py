import gzip
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import FaultyServer, Server

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


@pytest.fixture
def server(packed: Path) -> Iterator[Server]:
    server = Server(packed)
    yield server
    server.server.shutdown()
    server.server.server_close()


def assert_valid(raw: Path, files: dict[str, bytes]) -> None:
    assert {name: (raw / name).read_bytes() for name in files} == files


def test_valid_folder_is_not_written_to(data_dir: Path, tiny_files: dict[str, bytes]) -> None:
    raw = raw_folder(data_dir)
    before = {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]}
    assert download(data_dir) == raw
    # No lock either, so the folder may be read-only.
    assert {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]} == before


def test_download_from_a_mirror(
    server: Server,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "MIRRORS", (server.url,))
    raw = download("data")
    assert_valid(raw, tiny_files)
    assert sorted(server.requests) == sorted(f"/{name}.gz" for name in tiny_files)
    assert IMAGES in capsys.readouterr().err  # the progress bar
    assert {path.name for path in raw.iterdir()} <= {*tiny_files, ".lock"}  # no temporary file


@pytest.mark.fault("bad_mirror")
def test_next_mirror_is_tried(
    server: Server, packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (packed / "wrong").mkdir()
    # The first has no files, the second has another dataset under the same names.
    for name in tiny_files:
        (packed / "wrong" / f"{name}.gz").write_bytes(
            gzip.compress(b"MNIST" + tiny_files[name][5:])
        )
    mirrors = (f"{server.url}gone/", f"{server.url}wrong/", server.url)
    monkeypatch.setattr(module, "MIRRORS", mirrors)
    assert_valid(download("data"), tiny_files)
    assert server.requests[:2] == [f"/gone/{IMAGES}.gz", f"/wrong/{IMAGES}.gz"]


@pytest.mark.fault("bad_mirror")
def test_silent_mirror_times_out(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Server(packed, delay=3)
    monkeypatch.setattr(module, "MIRRORS", (silent.url,))
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1.*timed out"):
        download("data")
    assert time.monotonic() - start < 2
    silent.server.shutdown()
    silent.server.server_close()


def test_compressed_files_in_the_folder_are_used(
    packed: Path, tiny_files: dict[str, bytes]
) -> None:
    raw = raw_folder("data")
    shutil.copytree(packed, raw)
    assert_valid(download("data"), tiny_files)


def test_installed_debian_package_is_used(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)


@pytest.mark.fault("bad_data")
def test_corrupt_file_is_named_and_replaced(
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    file = raw_folder(data_dir) / IMAGES
    file.write_bytes(tiny_files[IMAGES][:1000])
    with caplog.at_level(logging.WARNING):
        assert_valid(download(data_dir), tiny_files)
    size = f"{len(tiny_files[IMAGES]):,}"
    assert f"Corrupt file {file}: 1,000 bytes, expected {size}; replacing it" in caplog.text
    assert {path.name for path in file.parent.iterdir()} <= {*tiny_files, ".lock"}


@pytest.mark.fault("bad_data")
def test_folder_in_the_place_of_a_file_is_left_alone(data_dir: Path, packed: Path) -> None:
    file = raw_folder(data_dir) / IMAGES
    file.unlink()
    file.mkdir()
    shutil.copy(packed / f"{IMAGES}.gz", file.parent)
    with pytest.raises(DataError, match=f"cannot write the dataset to {file.parent}: .*directory"):
        download(data_dir)
    assert file.is_dir()


@pytest.mark.fault("bad_data")
@pytest.mark.parametrize("content", ["other images", "one bit"])
def test_complete_file_of_other_data_is_refused_and_left_alone(
    content: str, data_dir: Path, packed: Path, tiny_files: dict[str, bytes]
) -> None:
    raw, good = raw_folder(data_dir), tiny_files[IMAGES]
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    bad = flipped if content == "one bit" else tiny_files["t10k-images-idx3-ubyte"]
    (raw / IMAGES).write_bytes(bad)
    before = sorted(raw.iterdir())
    with pytest.raises(DataError, match=rf"--data ImageFolderDataModule --data\.data_dir {raw}"):
        download(data_dir)
    assert sorted(raw.iterdir()) == before
    assert (raw / IMAGES).read_bytes() == bad


@pytest.mark.fault("bad_data")
def test_corrupt_file_stays_without_a_valid_copy(data_dir: Path) -> None:
    file = raw_folder(data_dir) / IMAGES
    file.write_bytes(b"bad")
    with pytest.raises(DataError, match=IMAGES):
        download(data_dir)
    assert file.read_bytes() == b"bad"


def test_error_lists_all_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = ("http://127.0.0.1:9/", "http://no.such.host.invalid/")
    monkeypatch.setattr(module, "MIRRORS", mirrors)
    with pytest.raises(DataError) as caught:
        download("data")
    text = str(caught.value)
    assert all(name in text for name in (IMAGES, *mirrors, "refused", "no apt-get", "by hand"))
    assert str(raw_folder("data")) in text


def test_error_has_the_message_of_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\necho 'E: no route' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(apt.parent), prepend=":")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(DataError, match="apt-get: E: no route"):
        download("data")


def test_error_names_the_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*--data\.data_dir"):
        download(tmp_path / "file")


SERVERS = {
    "stalls": "timed out",
    "resets": "reset by peer",
    "ends early": "end-of-stream marker",
    "says less": "end-of-stream marker",
    "says nothing": "0 bytes, expected",
    "another set": "its SHA-256 differs",
    "a page": "41 bytes, expected",
    "no HTTP": "220 welcome",
    "404": "404: Not Found",
    "500": "500: Oops",
    "loop": "infinite loop",
}


@pytest.mark.fault("bad_mirror")
@pytest.mark.parametrize("fault", SERVERS)
def test_faulty_server_is_skipped(
    fault: str,
    packed: Path,
    server: Server,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with FaultyServer(fault, packed) as faulty:
        monkeypatch.setattr(module, "MIRRORS", (faulty.url,))
        with pytest.raises(DataError, match=f"{faulty.url}: .*{SERVERS[fault]}"):
            download("data")
        assert not list(raw_folder("data").glob("*idx*"))
        monkeypatch.setattr(module, "MIRRORS", (faulty.url, server.url))
        assert_valid(download("data"), tiny_files)
        faulty.shutdown()


@pytest.mark.fault("bad_mirror")
@pytest.mark.parametrize("fault", ["says nonsense", "says more", "trickles"])
def test_valid_file_is_taken_from_a_slow_or_wrong_server(
    fault: str, packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer(fault, packed) as server:
        monkeypatch.setattr(module, "MIRRORS", (server.url,))
        assert_valid(download("data"), tiny_files)
        server.shutdown()


@pytest.mark.fault("bad_data")
def test_damaged_compressed_file_is_skipped(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_folder("data")
    raw.mkdir(parents=True)
    (raw / f"{LABELS}.gz").write_bytes((packed / f"{LABELS}.gz").read_bytes()[:100])
    (raw / LABELS).touch()
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)


@pytest.mark.slow
@pytest.mark.real
def test_debian_package_has_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("apt-get"):
        pytest.skip("this system has no apt-get")
    monkeypatch.setattr(module, "MIRRORS", ())
    try:
        raw = download("data")
    except DataError as error:
        pytest.skip(str(error))
    assert module._verify(raw) == {}
