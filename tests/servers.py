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
    """A web server that serves a folder and lists the requests."""

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


def respond(fault: str, content: bytes, connection: socket.socket) -> None:
    """Responds to a request for a file as a server or network with a fault does."""
    length, body = len(content), content
    status = b"404 Not Found" if fault == "404" else b"200 OK"
    if fault == "says more":
        length += 1000
    elif fault == "says less":
        length //= 2
    elif fault in ("stalls", "resets", "ends early"):
        body = content[: length // 2]
    elif fault == "another set":
        body = gzip.compress(b"MNIST" + gzip.decompress(content)[5:])
        length = len(body)
    elif fault == "a page":
        body = b"<html>Please log in to the network</html>"
        length = len(body)
    if fault == "no HTTP":
        connection.sendall(b"220 welcome\r\n")
        return
    head = [b"HTTP/1.1 " + status, b"Connection: close"]
    if fault == "says nonsense":
        head.append(b"Content-Length: many")
    else:
        head.append(b"Content-Length: %d" % length)
    connection.sendall(b"\r\n".join([*head, b"", b""]))
    if fault == "says nothing":
        return
    connection.sendall(body)
    if fault == "stalls":
        time.sleep(2)
    elif fault == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())  # closes with RST instead of FIN


class FaultyServer(socketserver.ThreadingTCPServer):
    """A web server that has one fault.

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
                    respond(fault, (packed / name).read_bytes(), self.connection)

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()
