import errno
import fcntl
import gzip
import shutil

import pytest
from servers import Server, reset, speak_no_http, stall

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def assert_valid(raw, files):
    assert {name: (raw / name).read_bytes() for name in files} == files


def test_valid_folder_is_not_written_to(data_dir, tiny_files):
    raw = raw_folder(data_dir)
    before = {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]}
    assert download(data_dir) == raw
    # No lock either, so the folder may be read-only.
    assert {path: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]} == before


def test_download_from_a_mirror(packed, tiny_files, monkeypatch, capsys):
    with Server(packed) as server:
        monkeypatch.setattr(module, "MIRRORS", (server.url,))
        raw = download("data")
    assert_valid(raw, tiny_files)
    assert sorted(server.requests) == sorted(f"/{name}.gz" for name in tiny_files)
    assert IMAGES in capsys.readouterr().err  # the progress bar
    assert {path.name for path in raw.iterdir()} <= {*tiny_files, ".lock"}  # no temporary file


def test_compressed_files_in_the_folder_are_used(packed, tiny_files):
    raw = raw_folder("data")
    shutil.copytree(packed, raw)
    assert_valid(download("data"), tiny_files)


@pytest.mark.fault("bad_data")
@pytest.mark.parametrize("content", ["other images", "one bit", "truncated"])
def test_file_with_other_content_is_refused_and_left_alone(content, data_dir, tiny_files):
    raw, good = raw_folder(data_dir), tiny_files[IMAGES]
    bad = {
        "other images": tiny_files["t10k-images-idx3-ubyte"],
        "one bit": good[:-1] + bytes([good[-1] ^ 1]),
        "truncated": good[:1000],
    }
    (raw / IMAGES).write_bytes(bad[content])
    with pytest.raises(DataError, match=rf"{IMAGES} is not that .* --data\.data_dir {raw}"):
        download(data_dir)
    assert_valid(raw, tiny_files | {IMAGES: bad[content]})


def test_error_lists_all_sources(monkeypatch):
    mirrors = ("http://127.0.0.1:9/", "http://no.such.host.invalid/")
    monkeypatch.setattr(module, "MIRRORS", mirrors)
    with pytest.raises(DataError) as caught:
        download("data")
    text = str(caught.value)
    assert all(name in text for name in (IMAGES, *mirrors, "refused", "no apt-get", "by hand"))
    assert str(raw_folder("data")) in text


def test_error_names_the_folder_that_is_not_writable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot read or write .*--data\.data_dir"):
        download(tmp_path / "file")


@pytest.mark.fault("bad_mirror")
@pytest.mark.parametrize(
    ("content", "fault", "message"),
    [
        (b"<html>Please log in to the network</html>", None, "Not a gzipped file"),
        (gzip.compress(b"MNIST"), None, "its SHA-256 differs"),
        (gzip.compress(bytes(1000))[:-9], None, "end-of-stream marker"),
        (None, None, "404: File not found"),
        (None, stall, "timed out"),
        (None, reset, "reset by peer"),
        (None, speak_no_http, "220 welcome"),
    ],
    ids=["page", "other data", "truncated", "no file", "stalls", "resets", "no HTTP"],
)
def test_faulty_mirror_is_skipped(
    content, fault, message, packed, tiny_files, monkeypatch, tmp_path
):
    folder = tmp_path / "faulty"
    folder.mkdir()
    if content:
        (folder / f"{IMAGES}.gz").write_bytes(content)
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with Server(folder, fault=fault) as faulty, Server(packed) as healthy:
        monkeypatch.setattr(module, "MIRRORS", (faulty.url,))
        with pytest.raises(DataError, match=f"{faulty.url}: .*{message}"):
            download("data")
        assert not list(raw_folder("data").glob("*idx*"))
        monkeypatch.setattr(module, "MIRRORS", (faulty.url, healthy.url))
        assert_valid(download("data"), tiny_files)


@pytest.mark.fault("bad_data")
def test_damaged_compressed_file_is_replaced_from_the_installed_package(
    packed, tiny_files, monkeypatch
):
    raw = raw_folder("data")
    raw.mkdir(parents=True)
    (raw / f"{LABELS}.gz").write_bytes((packed / f"{LABELS}.gz").read_bytes()[:100])
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)


@pytest.mark.slow
@pytest.mark.real
def test_debian_package_has_the_dataset(monkeypatch):
    monkeypatch.setattr(module, "MIRRORS", ())
    try:
        download("data")  # verifies them
    except DataError as error:
        pytest.skip(str(error))


def test_file_system_without_locks_stops_no_download(packed, tiny_files, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)
