"""The status page's server, on a socket of its own as systemd gives it one, asked by strangers."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import serve

from tests.unit.onbox.status_page.serving import Running, rest, serving
from tests.unit.onbox.status_page.statusbox import HOME

pytestmark = pytest.mark.commands


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("box")) as running:
        yield running


@pytest.fixture(autouse=True)
def _written(server: Running) -> None:
    server.status.write_text('{"written": 1}\n')


def test_what_is_gathered_is_served_as_it_is_now(server: Running) -> None:
    answer, body = server.ask("/status.json")
    assert (answer.status, body) == (200, b'{"written": 1}\n')
    assert answer.headers["Content-Type"] == "application/json"
    new = server.status.with_name("new")
    new.write_text('{"written": 2}\n')
    os.utime(new, (1_795_550_400, 1_795_550_400))
    new.replace(server.status)
    answer, body = server.ask("/status.json?anything")
    assert body == b'{"written": 2}\n'
    assert answer.headers["Last-Modified"] == "Tue, 24 Nov 2026 20:00:00 GMT"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/status.json", "application/json"),
        ("/nothing", "text/plain; charset=utf-8"),
    ],
)
def test_every_answer_ties_the_browser_down(server: Running, path: str, kind: str) -> None:
    answer, body = server.ask(path)
    assert answer.headers["Content-Type"] == kind
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Server"] is None
    assert "python" not in str(answer.headers).lower()
    head, nothing = server.ask(path, "HEAD")
    assert (head.status, head.headers["Content-Length"], nothing) == (
        *(answer.status, str(len(body))),
        b"",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/status.json/",
        "/page.html",
        "/serve.py",
        "/.",
        "/..",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/page.css/../serve.py",
        "//page.html",
        "/status.json%00",
        "/status.json;x",
        "/<script>alert(1)</script>",
        "/" + "a" * 4000,
        "http://127.0.0.1/",
        "*",
        "etc/passwd",
    ],
)
def test_other_names_are_not_there_and_not_repeated(server: Running, path: str) -> None:
    answer = server.raw(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert body == b"Not Found\n"
    assert b"script>" not in head


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405"),
        (b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", b"405"),
        (b"PUT /status.json HTTP/1.1\r\n\r\n", b"405"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", b"405"),
        (b"TRACE / HTTP/1.1\r\nX: <script>\r\n\r\n", b"405"),
        (b"CONNECT example:80 HTTP/1.1\r\n\r\n", b"405"),
        (b"get / HTTP/1.1\r\n\r\n", b"405"),
        (b"__class__ / HTTP/1.1\r\n\r\n", b"405"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1.1\r\n\r\n", b"400"),
        (b"GET / FTP/1.1\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # TLS
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 9000, b"431"),
        (b"x" * 1_000_000, b"431"),
        (b"GET / HTTP/1.1\r\n: \x00\xff\r\nno colon\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\nRange: bytes=0-9999999\r\nIf-Match: x\r\n\r\n", b"200"),
    ],
)
def test_nonsense_is_answered_in_one_line(server: Running, request_: bytes, status: bytes) -> None:
    try:
        answer = server.raw(request_)
    except (BrokenPipeError, ConnectionResetError):  # it would not even hear the end of it
        answer = b"HTTP/1.1 431 "
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert b"100 Continue" not in answer
    assert b"<script>" not in answer


@pytest.mark.parametrize("request_", [b"", b"\r\n\r\n", b"GET / HTT", b"GET / HTTP/1.1\r\n"])
def test_who_hangs_up_half_way_hears_nothing(server: Running, request_: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""


def test_one_connection_is_one_answer(server: Running) -> None:
    answer = server.raw(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in answer


@pytest.mark.parametrize("content", [None, b"", b"x" * (serve.JSON_LIMIT + 1)])
def test_without_a_whole_status_it_is_not_available(server: Running, content: bytes | None) -> None:
    if content is None:
        server.status.unlink()
    else:
        server.status.write_bytes(content)
    answer, body = server.ask("/status.json")
    assert (answer.status, body) == (503, b"Service Unavailable\n")
    assert server.ask("/")[0].status == 200


def test_two_hundred_requests_are_all_answered_in_few_threads(server: Running) -> None:
    threads = Path(f"/proc/{server.process.pid}/task")
    counts = []

    def ask(_: int) -> int:
        counts.append(len(list(threads.iterdir())))
        return server.ask("/status.json")[0].status

    with ThreadPoolExecutor(serve.AT_ONCE + 8) as pool:
        assert set(pool.map(ask, range(200))) == {200}
    assert max(counts) <= serve.AT_ONCE + 1


def test_the_slow_are_cut_off_and_the_many_wait_their_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All places are taken by ones that never come to an end; who comes then is served after."""
    monkeypatch.setattr(serve, "DEADLINE", 0.5)
    monkeypatch.setattr(serve.Server, "timeout", 3.0)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        inside = serve.Server(listener, HOME, tmp_path / "none")
        threading.Thread(target=inside.serve_forever, args=(0.05,), daemon=True).start()
        port = listener.getsockname()[1]
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(serve.AT_ONCE + 4)]
        began = time.monotonic()
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert rest(connection).startswith(b"HTTP/1.1 200 OK")
        assert 0.8 * serve.DEADLINE <= time.monotonic() - began < 4
        for connection in slow:
            assert rest(connection) == b""
            connection.close()
        inside.shutdown()


def test_it_ends_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.Server, "timeout", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve.Server(listener, HOME, Path("/nowhere"))
        assert not server.idle
        server.handle_request()
        assert server.idle
