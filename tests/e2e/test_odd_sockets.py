"""Descriptors and sockets that change under a call, are shared, or end without a FIN: each answer stays its request's."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .held_maps import open_tables
from .test_command_line import begin, end
from .tracer import Row, trace

pytestmark = pytest.mark.root
AF_UNSPEC = struct.pack("=H14x", 0)
Pair = tuple[socket.socket, socket.socket]


def get(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def answer(status: int) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connected(listener: socket.socket) -> Pair:
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]


def swap(pair: Pair, path: str, status: int) -> None:
    client, server = pair
    client.sendall(get(path))
    server.recv(999)
    server.sendall(answer(status))
    client.recv(999)


def answered(rows: list[Row], kind: str = "client") -> dict[str, Any]:
    key = "url.full" if kind == "client" else "url.path"
    named = [row["attributes"] for row in rows if row["kind"] == kind]
    return {one[key].rsplit("/", 1)[1]: one.get("http.response.status_code") or one.get("error.type") for one in named}


def test_a_descriptor_is_replaced_under_a_sleeping_reader() -> None:
    with listening() as listener, trace("--port", str(listener.getsockname()[1]), "--role", "client") as tracer:
        one, two = connected(listener), connected(listener)
        one[0].sendall(get("one"))
        two[0].sendall(get("two"))
        descriptor = one[0].fileno()
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(os.read(descriptor, 999)))
        reader.start()
        time.sleep(0.2)
        os.dup2(two[0].fileno(), descriptor)
        one[1].sendall(answer(201))
        reader.join()
        two[1].sendall(answer(202))
        two[0].recv(999)
        rows = tracer.rows(2)
    assert got == [answer(201)]
    assert answered(rows) == {"one": 201, "two": 202}


LEFT_ALONE = """
import socket, sys, threading, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
threading.Thread(target=time.sleep, args=(0.7,)).start()
client.sendall(b"GET /alone HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
client.recv(999)
"""


def test_a_reader_whose_siblings_go_leaves_no_note() -> None:
    """It was noted because of them, and wakes up alone."""
    with listening() as listener, trace("--port", str(listener.getsockname()[1]), "--role", "client") as tracer:
        notes = open_tables(tracer.pid)["readers"]
        reader = subprocess.Popen([sys.executable, "-c", LEFT_ALONE, str(listener.getsockname()[1])])
        server = listener.accept()[0]
        server.recv(999)
        time.sleep(0.3)
        noted = notes.entries()
        time.sleep(0.7)
        server.sendall(answer(201))
        assert reader.wait(10) == 0
        rows = tracer.rows(1)
        server.close()
        assert (noted, notes.entries()) == (1, 0)
    assert answered(rows) == {"alone": 201}


def test_a_socket_is_disconnected_and_connected_again() -> None:
    with listening() as listener, trace("--port", str(listener.getsockname()[1]), "--role", "client") as tracer:
        client, server = connected(listener)
        client.sendall(get("lost"))
        server.recv(999)
        assert ctypes.CDLL(None).connect(client.fileno(), AF_UNSPEC, len(AF_UNSPEC)) == 0
        client.connect(listener.getsockname())
        swap((client, listener.accept()[0]), "next", 202)
        rows = tracer.rows(2)
        client.close()
        ended = tracer.stop()
    assert answered(rows) == {"lost": "client_closed", "next": 202}
    assert "in flight 0" in ended.ledger


def test_a_child_that_was_not_asked_for_reads_the_answer() -> None:
    with listening() as listener, trace("--pid", str(os.getpid()), "--role", "client") as tracer:
        client, server = connected(listener)
        client.sendall(get("one"))
        server.recv(999)
        server.sendall(answer(201))
        child = os.fork()
        if child == 0:
            client.recv(999)
            os._exit(0)
        os.waitpid(child, 0)
        for number in (2, 3):
            swap((client, server), f"r{number}", 200 + number)
        rows = tracer.rows(3)
    assert answered(rows) == {"one": 201, "r2": 202, "r3": 203}


def test_a_server_resets_a_body_that_would_end_with_its_connection() -> None:
    with listening() as listener, trace("--port", str(listener.getsockname()[1]), "--role", "server") as tracer:
        client, server = connected(listener)
        client.sendall(get("cut"))
        server.recv(999)
        server.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        (row,) = tracer.rows(1)
        client.close()
    assert (row["attributes"]["http.response.status_code"], row["attributes"]["error.type"]) == (200, "incomplete")


@pytest.mark.parametrize("linger", [0, 1])
def test_a_client_leaves_before_it_is_accepted(linger: int) -> None:
    """What had come before is read all the same: by a FIN, or of a socket that a RST has taken the port from."""
    with listening() as listener, trace("--port", str(listener.getsockname()[1]), "--role", "server") as tracer:
        client = socket.create_connection(listener.getsockname())
        client.sendall(get("late"))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
        client.close()
        server = listener.accept()[0]
        assert server.recv(999) == get("late")
        server.close()
        (row,) = tracer.rows(1)
        port = listener.getsockname()[1]
    assert answered([row], "server") == {"late": "client_closed"}
    assert row["attributes"]["server.port"] == port


def test_a_fake_request_in_a_body_that_began_before_the_trace() -> None:
    fake = get("fake")
    with listening() as listener:
        client, server = connected(listener)
        client.sendall(get("before"))
        server.recv(999)
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(fake))
        client.recv(999)
        with trace("--port", str(listener.getsockname()[1]), "--role", "client") as tracer:
            server.sendall(fake)
            client.recv(999)
            for number in range(3):
                swap((client, server), f"real{number}", 201 + number)
            rows = tracer.rows(2)
    assert answered(rows) == {"real0": 201, "real1": 202, "real2": 203}


def test_the_lines_count_a_unix_exchange_once() -> None:
    client, server = socket.socketpair()
    tracer = begin("--show", "lines", "--interval", "60", "--pid", str(os.getpid()))
    for _ in range(4):
        swap((client, server), "shared", 200)
    time.sleep(0.3)
    out, _, _ = end(tracer)
    client.close()
    server.close()
    assert out.splitlines() == ["Endpoint: /shared, Status Code: 200, Count: 4"]
