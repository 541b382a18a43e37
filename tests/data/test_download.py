import contextlib
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

from fmnist_lightning.data import download as sources
from fmnist_lightning.data.download import DataError, fetch

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


def answer(kind: str, name: str, content: bytes, connection: socket.socket) -> None:
    """Answers a request for a file as a server or network with a fault does."""
    length, body = len(content), content
    status = {"404": b"404 Not Found", "500": b"500 Oops", "loop": b"302 Found"}.get(
        kind, b"200 OK"
    )
    if kind == "says more":
        length += 1000
    elif kind == "says less":
        length //= 2
    elif kind == "endless":
        length, body = 0, content * 100
    elif kind in ("stalls", "resets", "ends early"):
        body = content[: length // 2]
    elif kind == "a bomb":
        body = gzip.compress(bytes(10**7))
        length = len(body)
    elif kind == "another set":
        body = gzip.compress(b"MNIST" + gzip.decompress(content)[5:])
        length = len(body)
    elif kind == "a page":
        body = b"<html>Please log in to the network</html>"
        length = len(body)
    if kind == "no HTTP":
        connection.sendall(b"220 welcome\r\n")
        return
    head = [b"HTTP/1.1 " + status, b"Connection: close", b"Location: /" + name.encode()]
    if kind == "says nonsense":
        head.append(b"Content-Length: many")
    elif kind != "endless":
        head.append(b"Content-Length: %d" % length)
    connection.sendall(b"\r\n".join([*head, b"", b""]))
    if kind == "says nothing":
        return
    if kind == "trickles":
        for each in body[:60]:
            connection.sendall(bytes([each]))
            time.sleep(0.05)
    connection.sendall(body)
    if kind == "stalls":
        time.sleep(2)
    elif kind == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())  # at once, without a word of farewell


class FaultyServer(socketserver.ThreadingTCPServer):
    """A real server on this machine that has one fault.

    Args:
        kind: Which, see :func:`answer`.
        packed: The folder of what it would serve.
    """

    daemon_threads = True

    def __init__(self, kind: str, packed: Path) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                name = self.rfile.readline().split()[1].decode().lstrip("/")
                while self.rfile.readline().strip():
                    pass
                with contextlib.suppress(OSError):  # the other side has had enough
                    answer(kind, name, (packed / name).read_bytes(), self.connection)

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


SERVERS = {
    "stalls": "timed out",
    "trickles": "not whole after",
    "resets": "reset by peer",
    "ends early": r"the last [\d,]+ bytes did not come",
    "says more": "the last 1,000 bytes did not come",
    "says less": "end-of-stream marker",
    "says nothing": r"the last [\d,]+ bytes did not come",
    "endless": "more than",
    "a bomb": "bytes where",
    "another set": "its SHA-256 differs",
    "a page": "41 bytes where",
    "no HTTP": "220 welcome",
    "404": "404: Not Found",
    "500": "500: Oops",
    "loop": "infinite loop",
}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_with_a_fault_is_passed_over(
    kind: str,
    packed: Path,
    server: Server,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", 0.3)
    monkeypatch.setattr(sources, "DEADLINE", 0.3 if kind == "trickles" else 60)
    monkeypatch.setattr(sources, "MAX_DOWNLOAD", 10**6)
    with FaultyServer(kind, packed) as faulty:
        monkeypatch.setattr(sources, "MIRRORS", (faulty.url,))
        with pytest.raises(DataError, match=f"{faulty.url}: .*{SERVERS[kind]}"):
            fetch("data")
        assert not list(sources.raw_folder("data").glob("*idx*"))
        monkeypatch.setattr(sources, "MIRRORS", (faulty.url, server.url))
        check(fetch("data"), tiny_files)
        faulty.shutdown()


def test_a_length_that_is_no_number_is_not_needed(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyServer("says nonsense", packed) as server:
        monkeypatch.setattr(sources, "MIRRORS", (server.url,))
        check(fetch("data"), tiny_files)
        server.shutdown()


# ---- other processes, permissions, full disks ------------------------------------------------


def _fetch_elsewhere(
    folder: Path,
    files: dict[str, bytes],
    source: str | Path,
    first: Callable[[], None] | None = None,
) -> None:
    """What happens in a process: it fetches into ``data``, from a mirror or a folder."""
    os.chdir(folder)
    sources.FILES = as_data_files(files)
    sources.MIRRORS = (source,) if isinstance(source, str) else ()
    sources.DEBIAN_FOLDER = source if isinstance(source, Path) else Path("/nowhere")
    sources.DEBIAN_PACKAGE = "no-such-package"
    os.environ["PATH"] = ""
    if first is not None:
        first()
    try:
        fetch("data")
    except DataError as error:
        Path("error.txt").write_text(str(error))
        sys.exit(1)


def fetching(*args: Any, folder: Path) -> ForkServerProcess:
    """Starts such a process, in a folder."""
    process = CONTEXT.Process(target=_fetch_elsewhere, args=(folder, *args))
    process.start()
    return process


def test_sixteen_processes_at_once(
    packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    slow = Server(packed, delay=0.2)
    processes = [fetching(tiny_files, slow.url, folder=tmp_path) for _ in range(16)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    check(sources.raw_folder("data"), tiny_files)
    assert len(slow.asked) == 4  # the others waited for the first, and had nothing left to do
    slow.server.shutdown()
    slow.server.server_close()


@pytest.mark.parametrize(
    "function",
    [
        "os.fsync",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("gzip.open", "pathlib.Path.replace")),
    ],
)
def test_others_go_on_where_the_one_that_fetches_is_killed(
    function: str, packed: Path, tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    dying = [
        fetching(tiny_files, packed, Fault(function, 1).inject, folder=tmp_path) for _ in range(4)
    ]
    dying[0].join()
    healthy = [fetching(tiny_files, packed, folder=tmp_path) for _ in range(4)]
    for process in (*dying, *healthy):
        process.join()
    assert [process.exitcode for process in healthy] == [0] * 4
    assert {process.exitcode for process in dying} <= {0, -signal.SIGKILL}
    assert dying[0].exitcode == -signal.SIGKILL
    check(sources.raw_folder("data"), tiny_files)
    assert not list(sources.raw_folder("data").glob(".t*"))


def test_a_disk_that_is_full(packed: Path, tiny_files: dict[str, bytes], data_dir: Path) -> None:
    bad = sources.raw_folder("data") / IMAGES
    bad.write_bytes(b"bad")
    process = fetching(tiny_files, packed, limit_file_size, folder=data_dir.parent)
    process.join()
    assert process.exitcode == 1
    assert Path("error.txt").read_text().startswith("cannot write the data set into data/")
    assert bad.read_bytes() == b"bad"
    assert not list(bad.parent.glob(".train*"))
    process = fetching(tiny_files, packed, folder=data_dir.parent)
    process.join()
    check(bad.parent, tiny_files)


def test_what_a_killed_process_left_is_tidied_away(
    packed: Path, tiny_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = sources.raw_folder("data")
    raw.mkdir(parents=True)
    (raw / f".{IMAGES}.4711").write_bytes(tiny_files[IMAGES][:1000])
    (raw / f"{LABELS}.gz").write_bytes((packed / f"{LABELS}.gz").read_bytes()[:100])
    (raw / LABELS).touch()
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", packed)
    check(fetch("data"), tiny_files)
    assert not list(raw.glob(".train*"))


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        (IMAGES, 0o000, None),
        (LABELS, 0o200, None),
        ("", 0o555, None),  # the files are good, and nothing need be written
        ("bad, in a folder that can't be written", 0o555, "cannot write the data set into data/"),
        ("", 0o000, "cannot write the data set into data/"),
    ],
)
def test_permissions(
    name: str,
    mode: int,
    message: str | None,
    data_dir: Path,
    packed: Path,
    tiny_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Tests may run as root, whom nothing binds, and pytest's folders let no one else in.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(data_dir, Path(folder, "data"))
        shutil.copytree(packed, Path(folder, "packed"))
        monkeypatch.chdir(folder)
        raw = sources.raw_folder("data")
        if name.startswith("bad"):
            (raw / IMAGES).write_bytes(b"bad")
            name = ""
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o777)
        (raw / name).chmod(mode)
        process = fetching(tiny_files, Path("packed"), be_nobody, folder=Path(folder))
        process.join()
        raw.chmod(0o755)
        if message:
            assert process.exitcode == 1
            assert message in Path("error.txt").read_text()
        else:
            assert process.exitcode == 0
            check(raw, tiny_files)
        assert (raw / f"{name}.bad-1").exists() == bool(name)
        monkeypatch.chdir(data_dir)


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
