"""Serves the status page, on the socket that systemd listens on (status-page.socket).

Strangers send requests. So it knows four paths, and no path of a request becomes a file name. It
answers only GET and HEAD. It limits the size of a request's head, its time and the number of
requests at once, and does not read a body. It does not say what software answers, and neither
repeats nor logs anything of a request. After a while without requests the process ends, and systemd
starts it again for the next one.

The standard library's server does the rest; its documentation warns that it has no such limits.

PIPELINE_ROOT: a directory that stands for / (for tests; not set on a box).
"""

from __future__ import annotations

import http.server
import io
import os
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

HEAD_LIMIT = 8192  # bytes of a request
JSON_LIMIT = 2**18  # bytes
DEADLINE = 5.0  # seconds to receive a request, and to send its answer
AT_ONCE = 8
IDLE = 120.0  # seconds until the process ends
_FIRST_SOCKET = 3  # sd_listen_fds(3)

_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PLAIN = "text/plain; charset=utf-8"
_STATUS = "/status.json"
_PARTS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request and closes the connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE

    def handle(self) -> None:
        head = self._head()
        self.connection.settimeout(DEADLINE)  # for the answer as a whole
        if len(head) >= HEAD_LIMIT:
            self.command = ""
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif _ended(head):
            self.rfile = io.BufferedReader(io.BytesIO(head))
            self.handle_one_request()

    def _head(self) -> bytes:
        """The request up to the empty line after its head, within the limits of time and size."""
        until = time.monotonic() + DEADLINE
        head = b""
        while not _ended(head) and len(head) < HEAD_LIMIT:
            left = until - time.monotonic()
            if left <= 0:
                return b""
            self.connection.settimeout(left)
            piece = self.connection.recv(HEAD_LIMIT - len(head))
            if not piece:
                return b""
            head += piece
        return head

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name == _STATUS:
            self._answer_status()
        elif part := self.server.parts.get(name):
            self._answer(HTTPStatus.OK, *part)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _answer_status(self) -> None:
        try:
            with self.server.status.open("rb") as file:
                content = file.read(JSON_LIMIT + 1)
                written = os.fstat(file.fileno()).st_mtime
        except OSError:
            content = b""
        if not 0 < len(content) <= JSON_LIMIT:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        # With the answer's Date it gives the age of the content, by one clock.
        modified = {"Last-Modified": self.date_time_string(int(written))}
        self._answer(HTTPStatus.OK, content, "application/json", modified)

    def send_error(self, code: int, *_words: str | None, **_more: str | None) -> None:
        """Answer with the code's phrase only: the library's text repeats the request."""
        extra = {}
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, extra = HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"}
        phrase = HTTPStatus(code).phrase
        self._answer(code, f"{phrase}\n".encode(), _PLAIN, extra)

    def handle_expect_100(self) -> bool:
        """Send no "100 Continue", as no body is read."""
        return True

    def _answer(
        self, code: int, content: bytes, kind: str, extra: dict[str, str] | None = None
    ) -> None:
        self.request_version = self.protocol_version  # else a bad request gets no headers
        self.send_response_only(code)
        fields = {"Content-Type": kind, "Content-Length": str(len(content))}
        dated = {"Date": self.date_time_string()}
        for name, value in {**dated, **fields, **_HEADERS, **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.close_connection = True

    def log_message(self, format: str, *_args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing, so that no stranger writes into the journal."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread for each connection, at most AT_ONCE; other connections wait."""

    daemon_threads = True
    timeout = IDLE

    def __init__(self, listener: socket.socket, pages: Path, status: Path) -> None:
        # TCPServer.__init__ would make a socket, which this process may not.
        socketserver.BaseServer.__init__(self, listener.getsockname(), Handler)
        listener.settimeout(self.timeout)  # a client that hangs up before accept() blocks nobody
        self.socket = listener
        self.status = status
        self.parts = {
            name: ((pages / file).read_bytes(), kind) for name, (file, kind) in _PARTS.items()
        }
        self.idle = False
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_timeout(self) -> None:
        """No request for IDLE seconds, so all answers are long sent: end the process."""
        self.idle = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing of a client that hangs up or sends nonsense."""


def _ended(head: bytes) -> bool:
    return b"\r\n\r\n" in head or b"\n\n" in head


def main() -> None:
    root = os.environ.get("PIPELINE_ROOT", "")
    status = Path(f"{root}/run/pipeline{_STATUS}")
    listener = socket.socket(fileno=_FIRST_SOCKET)
    server = Server(listener, Path(__file__).parent, status)
    while not server.idle:
        server.handle_request()


if __name__ == "__main__":
    main()
