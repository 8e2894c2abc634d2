"""Exchanges whose answers tell whose they are: number N is asked for by /n/N, and answered by N bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .tracer import Row

Pair = tuple[socket.socket, socket.socket]


def get(number: int, *lines: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([b"%s /n/%d HTTP/1.1" % (method, number), b"Host: a", *lines, b"", b""])


def ok(number: int, *lines: bytes) -> bytes:
    """An answer that tells whose it is: its body has as many bytes as its request has for a number."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % number, *lines, b"", b"x" * number])


def number_of(row: Row) -> int:
    attributes = row["attributes"]
    return int((attributes.get("url.path") or attributes["url.full"]).rpartition("/")[2])


def read(sock: socket.socket, count: int, most: int = 1 << 20) -> None:
    while count:
        got = len(sock.recv(min(count, most)))
        if not got:
            raise EOFError(count)
        count -= got


@contextmanager
def pair_maker(port: int) -> Iterator[Callable[[], Pair]]:
    with socket.create_server(("127.0.0.1", port), backlog=512) as listener:

        def connected() -> Pair:
            client = socket.create_connection(("127.0.0.1", port))
            return client, listener.accept()[0]

        yield connected


def exchange(client: socket.socket, server: socket.socket, number: int) -> None:
    client.sendall(get(number))
    read(server, len(get(number)))
    server.sendall(ok(number))
    read(client, len(ok(number)))


@contextmanager
def in_thread(work: Callable[..., None], *args: object) -> Iterator[None]:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def serve_each(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serves one connection after another and closes it, until the listener is shut."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            serve(connection)


@contextmanager
def answering(port: int = 0) -> Iterator[int]:
    """Answers one request on each connection, and closes it; the port."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(ok(int(connection.recv(4096).split()[1].rpartition(b"/")[2])))

    with (
        socket.create_server(("127.0.0.1", port), backlog=512) as listener,
        in_thread(serve_each, listener, serve),
    ):
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def exchanges(port: int, numbers: range) -> None:
    """Each on a connection of its own."""
    with pair_maker(port) as connected:
        for number in numbers:
            client, server = connected()
            with client, server:
                exchange(client, server, number)
