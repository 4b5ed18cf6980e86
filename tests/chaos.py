"""A server that is not well: a proxy which fails as networks and servers do, when told to."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WRITES = ("PUT", "POST", "PATCH", "DELETE")
_OF_THE_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client asks of the server.

    Attributes:
        number: 1, 2, 3 … among the writes, or among the reads.
        method: Such as PUT.
        path: Bucket and key, with the query.
    """

    number: int
    method: str
    path: str

    @property
    def writes(self) -> bool:
        """Whether it changes what is stored."""
        return self.method in WRITES


# What befalls a request: a word of these.
#   refuse    the connection ends before anything is done
#   lose      it is done, but the answer never comes
#   truncate  the answer ends half way
#   busy      503 Slow Down
#   fail      500 Internal Error
#   spoil     it is done, but the answer is 500 Internal Error
#   stall     nothing happens for `STALL_S`, then all goes on
#   reject    400 Invalid Request: this object cannot be had so
#   expire    400 Expired Token: no object can be had any more
FAULTS = ("refuse", "lose", "truncate", "busy", "fail", "spoil", "stall")
STALL_S = 2.0
Befall = Callable[[Request], str | None]


class ChaosProxy:
    """Stands in front of a server (S3, Airflow); `befall` decides what becomes of each request.

    Args:
        upstream: Address of the server, such as `http://127.0.0.1:9000`.
    """

    def __init__(self, upstream: str):
        self.befall: Befall = lambda request: None
        # Called after a request was done, before its answer goes out.
        self.done: Callable[[Request], None] = lambda request: None
        self.writes = 0
        self.reads = 0
        self.befallen: list[tuple[str, Request]] = []
        self._lock = threading.Lock()
        self._upstream = upstream.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def do_GET(self) -> None:
                proxy._handle(self)

            do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                pass  # a client that was killed in the middle

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ChaosProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def begin(self) -> None:
        """Counts anew."""
        with self._lock:
            self.writes = self.reads = 0
            self.befallen = []

    def _count(self, handler: BaseHTTPRequestHandler) -> Request:
        with self._lock:
            if handler.command in WRITES:
                self.writes += 1
                number = self.writes
            else:
                self.reads += 1
                number = self.reads
        return Request(number, handler.command, handler.path)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = self._count(handler)
        fault = self.befall(request)
        if fault:
            with self._lock:
                self.befallen.append((fault, request))
        if fault == "refuse":
            self._hang_up(handler)
        elif fault in ("busy", "fail", "reject", "expire"):
            self._refuse(handler, fault)
        else:
            if fault == "stall":
                time.sleep(STALL_S)
            self._forward(handler, request, body, fault)

    def _forward(
        self, handler: BaseHTTPRequestHandler, request: Request, body: bytes, fault: str | None
    ) -> None:
        upstream = http.client.HTTPConnection(self._upstream, timeout=60)
        with contextlib.closing(upstream):
            # As it was signed, the name of the host included.
            upstream.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in handler.headers.items():
                if name.lower() not in (*_OF_THE_CONNECTION, "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
        self.done(request)
        if fault == "lose":
            self._hang_up(handler)
            return
        if fault == "spoil":
            self._refuse(handler, fault)
            return
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*_OF_THE_CONNECTION, "content-length"):
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if request.method == "HEAD" else len(content)
        handler.send_header("Content-Length", str(length or 0))
        handler.end_headers()
        if fault == "truncate":
            handler.wfile.write(content[: len(content) // 2])
            self._hang_up(handler)
        elif request.method != "HEAD":
            handler.wfile.write(content)

    def _refuse(self, handler: BaseHTTPRequestHandler, fault: str) -> None:
        refusals = {
            "busy": (503, "SlowDown"),
            "reject": (400, "InvalidRequest"),
            "expire": (400, "ExpiredToken"),
        }
        status, code = refusals.get(fault, (500, "InternalError"))
        content = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def _hang_up(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.flush()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
