import contextlib
import fcntl
import functools
import gzip
import http.server
import logging
import os
import shutil
import signal
import socket
import socketserver
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import as_data_files
from processes import CONTEXT, Fault, be_nobody, limit_file_size

from fmnist_lightning.data import download as module
from fmnist_lightning.data.download import DataError, download, raw_folder

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


class Server:
    """A real web server on this machine that serves a folder and lists the requests."""

    def __init__(self, folder: Path, delay: float = 0) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
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


def test_silent_mirror_times_out(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Server(packed, delay=3)
    monkeypatch.setattr(module, "MIRRORS", (silent.url,))
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1.*timed out after 0\.1 s"):
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


@pytest.mark.parametrize("damage", ["truncated", "swapped", "one bit", "a folder"])
def test_corrupt_file_is_renamed_and_replaced(
    damage: str,
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    file = raw_folder(data_dir) / IMAGES
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
        assert_valid(download(data_dir), tiny_files)
    aside = file.with_name(f"{IMAGES}.bad-1")
    assert f"Corrupt file in {file.parent}: {IMAGES}: " in caplog.text
    assert f"Corrupt file moved to {aside}" in caplog.text
    assert aside.is_dir() if damage == "a folder" else aside.read_bytes() == bad
    # A second corrupt file does not replace the first.
    shutil.copy(file.with_name(LABELS), file)
    download(data_dir)
    assert aside.exists()
    assert file.with_name(f"{IMAGES}.bad-2").exists()


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


def test_decompression_stops_after_the_expected_size() -> None:
    assert len(module._decompress(gzip.compress(bytes(10**7)), size=100)) == 101


def respond(fault: str, name: str, content: bytes, connection: socket.socket) -> None:
    """Responds to a request for a file as a server or network with a fault does."""
    length, body = len(content), content
    status = {"404": b"404 Not Found", "500": b"500 Oops", "loop": b"302 Found"}.get(
        fault, b"200 OK"
    )
    if fault == "says more":
        length += 1000
    elif fault == "says less":
        length //= 2
    elif fault == "endless":
        length, body = 0, content * 100
    elif fault in ("stalls", "resets", "ends early"):
        body = content[: length // 2]
    elif fault == "a bomb":
        body = gzip.compress(bytes(10**7))
        length = len(body)
    elif fault == "another set":
        body = gzip.compress(b"MNIST" + gzip.decompress(content)[5:])
        length = len(body)
    elif fault == "a page":
        body = b"<html>Please log in to the network</html>"
        length = len(body)
    if fault == "no HTTP":
        connection.sendall(b"220 welcome\r\n")
        return
    head = [b"HTTP/1.1 " + status, b"Connection: close", b"Location: /" + name.encode()]
    if fault == "says nonsense":
        head.append(b"Content-Length: many")
    elif fault != "endless":
        head.append(b"Content-Length: %d" % length)
    connection.sendall(b"\r\n".join([*head, b"", b""]))
    if fault == "says nothing":
        return
    if fault == "trickles":
        for each in body[:60]:
            connection.sendall(bytes([each]))
            time.sleep(0.05)
    connection.sendall(body)
    if fault == "stalls":
        time.sleep(2)
    elif fault == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())  # closes with RST instead of FIN


class FaultyServer(socketserver.ThreadingTCPServer):
    """A real server on this machine that has one fault.

    Args:
        fault: Which, see :func:`respond`.
        packed: The folder of what it would serve.
    """

    daemon_threads = True

    def __init__(self, fault: str, packed: Path) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                name = self.rfile.readline().split()[1].decode().lstrip("/")
                while self.rfile.readline().strip():
                    pass
                with contextlib.suppress(OSError):  # the client closed the connection
                    respond(fault, name, (packed / name).read_bytes(), self.connection)

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


SERVERS = {
    "stalls": "timed out after",
    "trickles": "incomplete after",
    "resets": "reset by peer",
    "ends early": r"connection closed [\d,]+ bytes early",
    "says more": "connection closed 1,000 bytes early",
    "says less": "end-of-stream marker",
    "says nothing": r"connection closed [\d,]+ bytes early",
    "endless": "more than",
    "a bomb": "bytes, expected",
    "another set": "its SHA-256 differs",
    "a page": "41 bytes, expected",
    "no HTTP": "220 welcome",
    "404": "404: Not Found",
    "500": "500: Oops",
    "loop": "infinite loop",
}


@pytest.mark.parametrize("fault", SERVERS)
def test_faulty_server_is_skipped(
    fault: str,
    packed: Path,
    server: Server,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    monkeypatch.setattr(module, "DEADLINE", 0.3 if fault == "trickles" else 60)
    monkeypatch.setattr(module, "MAX_DOWNLOAD", 10**6)
    with FaultyServer(fault, packed) as faulty:
        monkeypatch.setattr(module, "MIRRORS", (faulty.url,))
        with pytest.raises(DataError, match=f"{faulty.url}: .*{SERVERS[fault]}"):
            download("data")
        assert not list(raw_folder("data").glob("*idx*"))
        monkeypatch.setattr(module, "MIRRORS", (faulty.url, server.url))
        assert_valid(download("data"), tiny_files)
        faulty.shutdown()


def test_invalid_content_length_is_ignored(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer("says nonsense", packed) as server:
        monkeypatch.setattr(module, "MIRRORS", (server.url,))
        assert_valid(download("data"), tiny_files)
        server.shutdown()


# ---- other processes, permissions, full disks ----


def _download_in_process(
    folder: Path,
    files: dict[str, bytes],
    source: str | Path,
    setup: Callable[[], None] | None = None,
) -> None:
    """Downloads to ``data`` in ``folder``, from a mirror or a folder."""
    os.chdir(folder)
    module.FILES = as_data_files(files)
    module.MIRRORS = (source,) if isinstance(source, str) else ()
    module.DEBIAN_FOLDER = source if isinstance(source, Path) else Path("/nowhere")
    module.DEBIAN_PACKAGE = "no-such-package"
    os.environ["PATH"] = ""
    if setup is not None:
        setup()
    try:
        download("data")
    except DataError as error:
        Path("error.txt").write_text(str(error))
        sys.exit(1)


def start_download(*args: Any, folder: Path) -> ForkServerProcess:
    """Starts a process that downloads, see above."""
    process = CONTEXT.Process(target=_download_in_process, args=(folder, *args))
    process.start()
    return process


def test_sixteen_processes_download_once(
    packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    slow = Server(packed, delay=0.2)
    processes = [start_download(tiny_files, slow.url, folder=tmp_path) for _ in range(16)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    assert_valid(raw_folder("data"), tiny_files)
    assert len(slow.requests) == 4  # by the first; the others waited
    slow.server.shutdown()
    slow.server.server_close()


def test_waiting_for_another_process_is_logged(
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    raw_folder("data").mkdir(parents=True)
    lock = (raw_folder("data") / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # as another process would
    threading.Timer(0.3, lock.close).start()
    with caplog.at_level(logging.INFO):
        assert_valid(download("data"), tiny_files)
    assert "waiting for another process to finish the download to data/" in caplog.text


@pytest.mark.parametrize(
    "function",
    [
        "os.fsync",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("gzip.open", "pathlib.Path.replace")),
    ],
)
def test_other_processes_finish_after_a_sigkill(
    function: str, packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    dying = [
        start_download(tiny_files, packed, Fault(function, 1).inject, folder=tmp_path)
        for _ in range(4)
    ]
    dying[0].join()
    healthy = [start_download(tiny_files, packed, folder=tmp_path) for _ in range(4)]
    for process in (*dying, *healthy):
        process.join()
    assert [process.exitcode for process in healthy] == [0] * 4
    assert {process.exitcode for process in dying} <= {0, -signal.SIGKILL}
    assert dying[0].exitcode == -signal.SIGKILL
    assert_valid(raw_folder("data"), tiny_files)
    assert not list(raw_folder("data").glob(".t*"))


def test_full_disk_leaves_the_corrupt_file(
    packed: Path, tiny_files: dict[str, bytes], data_dir: Path
) -> None:
    bad = raw_folder("data") / IMAGES
    bad.write_bytes(b"bad")
    process = start_download(tiny_files, packed, limit_file_size, folder=data_dir.parent)
    process.join()
    assert process.exitcode == 1
    assert Path("error.txt").read_text().startswith("cannot write the dataset to data/")
    assert bad.read_bytes() == b"bad"
    assert not list(bad.parent.glob(".train*"))
    process = start_download(tiny_files, packed, folder=data_dir.parent)
    process.join()
    assert_valid(bad.parent, tiny_files)


def test_leftovers_of_a_killed_process_are_removed(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_folder("data")
    raw.mkdir(parents=True)
    (raw / f".{IMAGES}.4711").write_bytes(tiny_files[IMAGES][:1000])
    (raw / f"{LABELS}.gz").write_bytes((packed / f"{LABELS}.gz").read_bytes()[:100])
    (raw / LABELS).touch()
    monkeypatch.setattr(module, "DEBIAN_FOLDER", packed)
    assert_valid(download("data"), tiny_files)
    assert not list(raw.glob(".train*"))


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        (IMAGES, 0o000, None),
        (LABELS, 0o200, None),
        ("", 0o555, None),  # valid files, so nothing is written
        ("corrupt, in a read-only folder", 0o555, "cannot write the dataset to data/"),
        ("", 0o000, "cannot write the dataset to data/"),
    ],
)
def test_file_and_folder_permissions(
    name: str,
    mode: int,
    message: str | None,
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As root, permissions have no effect, and pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(data_dir, Path(folder, "data"))
        shutil.copytree(packed, Path(folder, "packed"))
        monkeypatch.chdir(folder)
        raw = raw_folder("data")
        if name.startswith("corrupt"):
            (raw / IMAGES).write_bytes(b"bad")
            name = ""
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (raw / name).chmod(mode)
        process = start_download(tiny_files, Path("packed"), be_nobody, folder=Path(folder))
        process.join()
        raw.chmod(0o755)
        if message:
            assert process.exitcode == 1
            assert message in Path("error.txt").read_text()
        else:
            assert process.exitcode == 0
            assert_valid(raw, tiny_files)
        assert (raw / f"{name}.bad-1").exists() == bool(name)
        monkeypatch.chdir(data_dir)


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
