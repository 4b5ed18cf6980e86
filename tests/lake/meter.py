"""Counting what a server answers with."""

from __future__ import annotations

import contextlib
import socket
import threading


class Meter:
    """Stands before a server and counts the bytes that come back from it.

    Attributes:
        endpoint_url: What to connect to instead of the server.
        received_bytes: What came back so far.
    """

    def __init__(self, endpoint_url: str):
        host, _, port = endpoint_url.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received_bytes = 0

    def __enter__(self) -> Meter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc_info) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(
                        target=self._forward, args=(source, target, source is server), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65_536):
                if counted:
                    self.received_bytes += len(chunk)
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
