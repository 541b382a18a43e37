"""Web servers on this machine, with and without faults."""

import contextlib
import functools
import gzip
import http.server
import os
import socket
import socketserver
import struct
import threading
import time
from pathlib import Path
from typing import Any


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


def respond(fault: str, name: str, content: bytes, connection: socket.socket) -> None:
    """Responds to a request for a file as a server or network with a fault does."""
    statuses = {"404": "404 Not Found", "500": "500 Oops", "loop": "302 Found"}
    half = content[: len(content) // 2]
    others = {
        "another set": gzip.compress(b"MNIST" + gzip.decompress(content)[5:]),
        "a page": b"<html>Please log in to the network</html>",
    }
    parts = {"stalls": half, "resets": half, "ends early": half, "says nothing": b""}
    body = (others | parts).get(fault, content)
    lengths = {
        "says more": len(content) + 1000,
        "says less": len(half),
        "says nonsense": "many",
    }
    length = lengths.get(fault, len(others.get(fault, content)))
    if fault == "no HTTP":
        connection.sendall(b"220 welcome\r\n")
        return
    status = statuses.get(fault, "200 OK")
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nLocation: /{name}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    for index in range(60 if fault == "trickles" else 0):
        connection.sendall(body[index : index + 1])
        time.sleep(0.01)
    connection.sendall(body[60:] if fault == "trickles" else body)
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
