"""What each capture must see of real servers: all that nginx logs, bodies that no system call shows, io_uring."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peers.build import artifact
from peers.servers import start
from peers.test_peers import available

from .collector import free_port
from .expected import at
from .messages import request, response
from .peer import Place
from .raw import together
from .stage import Stage
from .tracer import SLOWNESS, Row, trace

pytestmark = [pytest.mark.root, pytest.mark.peers]
REQUESTS, ROUND, CLIENTS = 10_000, 2_000, 10
FILE_BYTES = 10 * 1000 * 1000
URING_SENT, URING_GOT, URING_WAIT_NS = 10, 1000, 50_000_000


def ask(port: int, numbers: range) -> None:
    """One keep-alive connection that asks for these, one after the other."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(15 * SLOWNESS)
        for n in numbers:
            sock.sendall(request(f"GET /id/{n}", host=b"localhost"))
            answer, end = b"", f"/id/{n}\n".encode()
            while not answer.endswith(end):
                answer += sock.recv(4096) or pytest.fail("nginx has closed")
            assert answer.startswith(b"HTTP/1.1 200 ")


def exchanges(stage: Stage, place: Place, expect: int) -> list[Row]:
    """Rows of a place, without those of looking whether its server is up."""
    here = at(place)
    return stage.tcp.rows(expect, 60 * SLOWNESS, lambda row: here(row) and row["name"] != "tcp connect")


def told(rows: list[Row]) -> list[tuple[str, str, int, int, int]]:
    return [
        (
            row["kind"],
            row["name"],
            row["attributes"]["http.response.status_code"],
            row["request_body_bytes"],
            row["response_body_bytes"],
        )
        for row in rows
    ]


def test_ten_thousand_requests_are_those_that_nginx_logs(stage: Stage) -> None:
    """In rounds that the ring holds, however slow the machine."""
    available("nginx")
    place, before = stage.place(), stage.tcp.count()
    with start("nginx", place.port) as server:
        for first in range(0, REQUESTS, ROUND):
            clients = [range(first + i, first + ROUND, CLIENTS) for i in range(CLIENTS)]
            together(*(lambda numbers=numbers: ask(place.port, numbers) for numbers in clients))
            stage.tcp.wait_for_rows(before + 2 * (first + ROUND), 20 * SLOWNESS)
        logged = Counter(one.target for one in server.access_log(REQUESTS))
        rows = exchanges(stage, place, 2 * REQUESTS)
    assert logged == Counter(f"/id/{n}" for n in range(REQUESTS))
    assert Counter(row["attributes"]["url.path"] for row in rows if row["kind"] == "server") == logged
    assert sum(row["kind"] == "client" for row in rows) == REQUESTS
    assert {row["attributes"]["http.response.status_code"] for row in rows} == {200}


def test_ten_megabytes_by_sendfile(stage: Stage) -> None:
    available("nginx")
    place = stage.place()
    with start("nginx", place.port) as server:
        (server.dir / "www/ten").write_bytes(bytes(FILE_BYTES))
        began = time.monotonic_ns()
        with socket.create_connection(("127.0.0.1", place.port)) as sock:
            sock.sendall(request("GET /ten", "Connection: close", host=b"localhost"))
            while sock.recv(1 << 20):
                pass
        took = time.monotonic_ns() - began
        rows = exchanges(stage, place, 2)
    assert sorted(told(rows)) == [("client", "GET", 200, 0, FILE_BYTES), ("server", "GET", 200, 0, FILE_BYTES)]
    assert all(took / 50 < row["duration_ns"] <= took for row in rows)


@contextmanager
def io_uring_server(port: int) -> Iterator[None]:
    available("uring")
    server = subprocess.Popen([artifact("uring"), "server", str(port)])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if server.poll() == 3:
                pytest.skip("this kernel has no io_uring")
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def ask_by_io_uring(port: int, count: int) -> int:
    began = time.monotonic_ns()
    for n in range(count):
        subprocess.run([artifact("uring"), "client", str(port), f"/uring/{n}"], check=True)
    return time.monotonic_ns() - began


def test_requests_over_io_uring(stage: Stage) -> None:
    """Whole where the capture can see them; else not a row, rather than a wrong one."""
    place = stage.place()
    with io_uring_server(place.port):
        took = ask_by_io_uring(place.port, 3)
        rows = exchanges(stage, place, 0 if stage.tcp.capture == "syscall" else 6)
    if stage.tcp.capture == "syscall":
        assert rows == []
        return
    expected = [("client", "POST", 201, URING_SENT, URING_GOT)] * 3 + [
        ("server", "POST", 201, URING_SENT, URING_GOT)
    ] * 3
    assert sorted(told(rows)) == expected
    assert {row["attributes"]["url.path"] for row in rows if row["kind"] == "server"} == {
        f"/uring/{n}" for n in range(3)
    }
    assert all(URING_WAIT_NS <= row["duration_ns"] < took for row in rows)


def told_by_server(rows: list[Row]) -> list[tuple[str, int | None]]:
    return sorted(
        (row["attributes"]["url.path"], row["attributes"].get("http.response.status_code"))
        for row in rows
        if row["kind"] == "server"
    )


def send_by_aio(sock: socket.socket, data: bytes) -> None:
    """Have the kernel write to a socket by io_submit(2), as no system call for sockets would."""
    setup, submit, destroy = (206, 209, 207) if platform.machine() == "x86_64" else (0, 2, 1)
    libc, context = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong()
    buffer = ctypes.create_string_buffer(data, len(data))
    write = 1
    block = struct.pack(
        "<QIIHhIQQqQII", 0, 0, 0, write, 0, sock.fileno(), ctypes.addressof(buffer), len(data), 0, 0, 0, 0
    )
    control = ctypes.create_string_buffer(block, len(block))
    blocks = (ctypes.c_void_p * 1)(ctypes.addressof(control))
    if libc.syscall(setup, 1, ctypes.byref(context)):
        pytest.skip(f"this kernel has no AIO ({os.strerror(ctypes.get_errno())})")
    assert libc.syscall(submit, context, 1, blocks) == 1
    libc.syscall(destroy, context)


def answer_each(listener: socket.socket, count: int) -> None:
    """Answer 202 by plain calls, but requests of /unseen 201 and by AIO."""
    sock, _ = listener.accept()
    with sock:
        for _ in range(count):
            if b"/unseen" in sock.recv(4096):
                send_by_aio(sock, response("201 Created"))
            else:
                sock.sendall(response("202 Accepted"))


def ask_each(place: Place, paths: list[str]) -> None:
    with socket.create_connection(place.address) as sock:
        for path in paths:
            sock.sendall(request(f"GET {path}", host=b"localhost"))
            assert sock.recv(65536).endswith(b"\r\n\r\n")
            time.sleep(0.2)


@pytest.mark.parametrize("paths", [["/a", "/unseen", "/b", "/c"], ["/a", "/unseen"]])
def test_an_answer_that_is_not_seen_makes_no_other_one_its_own(stage: Stage, paths: list[str]) -> None:
    place = stage.place()
    with socket.create_server(place.address) as listener:
        together(lambda: answer_each(listener, len(paths)), lambda: ask_each(place, paths))
        rows = exchanges(stage, place, len(paths) + 1)
    right = sorted((path, 201 if path == "/unseen" else 202) for path in paths)
    statuses = sorted(row["attributes"]["http.response.status_code"] for row in rows if row["kind"] == "client")
    assert statuses == sorted(status for _, status in right)
    seen = told_by_server(rows)
    if stage.tcp.capture == "syscall":
        assert ("/a", 202) in seen
        assert set(seen) <= set(right) - {("/unseen", 201)}
    else:
        assert seen == right


def test_what_io_uring_moves_is_counted_where_it_is_not_seen() -> None:
    port = free_port()
    with io_uring_server(port), trace("--port", str(port), "--capture", "syscall") as tracer:
        ask_by_io_uring(port, 3)
        ended = tracer.stop()
    assert tracer.all_rows() == []
    assert "6 connections that io_uring moves" in ended.ledger
