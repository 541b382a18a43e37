import errno
import fcntl
import shutil
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
@pytest.mark.parametrize("content", ["other images", "one bit", "truncated", "a folder"])
def test_file_with_other_content_is_refused_and_left_alone(
    content: str, data_dir: Path, tiny_files: dict[str, bytes]
) -> None:
    raw, good = raw_folder(data_dir), tiny_files[IMAGES]
    bad = {
        "other images": tiny_files["t10k-images-idx3-ubyte"],
        "one bit": good[:-1] + bytes([good[-1] ^ 1]),
        "truncated": good[:1000],
    }
    (raw / IMAGES).unlink()
    if content in bad:
        (raw / IMAGES).write_bytes(bad[content])
        message = rf"{IMAGES} is not that .* remove it .*--data\.data_dir {raw}"
    else:
        (raw / IMAGES).mkdir()
        message = f"cannot read or write the dataset in {raw}: .*directory"
    before = sorted(raw.iterdir())
    with pytest.raises(DataError, match=message):
        download(data_dir)
    assert sorted(raw.iterdir()) == before
    assert content not in bad or (raw / IMAGES).read_bytes() == bad[content]


def test_error_lists_all_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = ("http://127.0.0.1:9/", "http://no.such.host.invalid/")
    monkeypatch.setattr(module, "MIRRORS", mirrors)
    with pytest.raises(DataError) as caught:
        download("data")
    text = str(caught.value)
    assert all(name in text for name in (IMAGES, *mirrors, "refused", "no apt-get", "by hand"))
    assert str(raw_folder("data")) in text


def test_error_names_the_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot read or write .*--data\.data_dir"):
        download(tmp_path / "file")


SERVERS = {
    "stalls": "timed out",
    "resets": "reset by peer",
    "ends early": "end-of-stream marker",
    "says less": "end-of-stream marker",
    "says nothing": "its SHA-256 differs",
    "another set": "its SHA-256 differs",
    "a page": "Not a gzipped file",
    "no HTTP": "220 welcome",
    "404": "404: Not Found",
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
@pytest.mark.parametrize("fault", ["says nonsense", "says more"])
def test_valid_file_is_taken_from_a_server_with_a_wrong_length(
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
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)


@pytest.mark.slow
@pytest.mark.real
def test_debian_package_has_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIRRORS", ())
    try:
        download("data")  # verifies them
    except DataError as error:
        pytest.skip(str(error))


def test_file_system_without_locks_stops_no_download(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)
