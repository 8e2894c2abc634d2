"""What a tracer finds: variables, and a server whose answers are given."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .numbered import serve_each


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables of the tracers that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def exchange(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(request)
        while client.recv(65536):
            pass


@contextmanager
def answering(answers: dict[bytes, bytes | None]) -> Iterator[int]:
    """A server that gives each target its answer, or none, and closes."""

    def serve(connection: socket.socket) -> None:
        answer = answers.get(connection.recv(65536).split(b" ")[1].split(b"?")[0])
        if answer:
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_each, args=(listener, serve), daemon=True).start()
        yield listener.getsockname()[1]


def answer(status: bytes, body: bytes = b"hi") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


ANSWERS: dict[bytes, bytes | None] = {
    b"/ok": answer(b"200 OK"), b"/gone": answer(b"404 Not Found"), b"/broken": answer(b"503 Service Unavailable"),
    b"/none": None, b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
}  # fmt: skip
