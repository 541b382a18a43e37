"""Web servers on this machine, with and without faults."""

import functools
import http.server
import os
import socket
import struct
import threading
import time

START = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nstart of a file"


def stall(connection):
    """A fault: sends the start of a file, then nothing for longer than the client waits."""
    connection.sendall(START)
    time.sleep(2)


def reset(connection):
    """A fault: sends the start of a file, then closes the connection with RST instead of FIN."""
    connection.sendall(START)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


def speak_no_http(connection):
    """A fault: a server of another protocol."""
    connection.sendall(b"220 welcome\r\n")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the folder of a :class:`Server`."""

    server: "Server"

    def do_GET(self):
        self.server.requests.append(self.path)
        time.sleep(self.server.delay)
        if self.server.fault:
            self.server.fault(self.connection)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    """A web server that serves a folder, and lists the requests, in a ``with`` statement.

    Args:
        folder: Where the files are.
        delay: Seconds before each response.
        fault: Called in place of each response.
    """

    def __init__(self, folder, delay=0, fault=None):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.delay = delay
        self.fault = fault
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *args):
        self.shutdown()
        super().__exit__(*args)
