"""Servers whose threads mislead: odd_relay.py PORT UPSTREAM WAY asks UPSTREAM for the path that it is asked for, on blocking sockets.

What is asked for on nobody's behalf is /tick/0.
"""

from __future__ import annotations

import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Listener = socket.socket
upstream = sys.argv[2].rpartition(":")
mine = threading.local()


def connect() -> socket.socket:
    """A connection to the upstream."""
    return socket.create_connection((upstream[0], int(upstream[2])))


def ask(path: str) -> None:
    """One request, on a connection that the thread keeps."""
    if not hasattr(mine, "socket"):
        mine.socket = connect()
    mine.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: upstream\r\n\r\n".encode())
    got = b""
    while b"answered" not in got:
        got += mine.socket.recv(4096)


def read(client: socket.socket) -> str:
    """The path of a request; empty at the end of the stream."""
    head = b""
    while b"\r\n\r\n" not in head:
        got = client.recv(4096)
        if not got:
            return ""
        head += got
    return head.split()[1].decode()


def answer(client: socket.socket, path: str) -> None:
    """Ask, then answer."""
    ask(path)
    client.sendall(ANSWER)


def each(listener: Listener, serve: Callable[[socket.socket], None]) -> None:
    """A thread for each connection."""
    while True:
        client = listener.accept()[0]
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def handed_over(listener: Listener) -> None:
    """Each connection has a reader, which hands requests to workers and asks for things of its own."""
    work: queue.Queue[tuple[socket.socket, str]] = queue.Queue()

    def worker() -> None:
        while True:
            answer(*work.get())

    def reader(client: socket.socket) -> None:
        while path := read(client):
            work.put((client, path))
            time.sleep(0.001)
            ask("/tick/0")

    for _ in range(8):
        threading.Thread(target=worker, daemon=True).start()
    each(listener, reader)


def in_stages(listener: Listener) -> None:
    """Reading and answering are tasks of their own, in one pool."""
    pool = ThreadPoolExecutor(16)

    def second(client: socket.socket, path: str) -> None:
        answer(client, path)
        pool.submit(first, client)

    def first(client: socket.socket) -> None:
        if path := read(client):
            pool.submit(second, client, path)

    while True:
        pool.submit(first, listener.accept()[0])


def selecting(listener: Listener) -> None:
    """One thread for all, on blocking sockets: it asks a while after it has read."""
    clients: list[socket.socket] = []
    due: list[tuple[float, socket.socket, str]] = []
    while True:
        ready, _, _ = select.select([listener, *clients], [], [], 0.001)
        for one in ready:
            if one is listener:
                clients.append(listener.accept()[0])
            elif path := read(one):
                due.append((time.monotonic() + 0.003, one, path))
            else:
                clients.remove(one)
        if due and due[0][0] < time.monotonic():
            answer(*due.pop(0)[1:])
        elif not due:
            ask("/tick/0")


def before_and_after(listener: Listener) -> None:
    """It asks when half of a head is read, and when it has answered."""

    def serve(client: socket.socket) -> None:
        while head := client.recv(8):
            ask("/tick/0")
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            answer(client, head.split()[1].decode())
            ask("/tick/0")

    each(listener, serve)


def with_background(listener: Listener) -> None:
    """A thread for each connection, and one that asks of its own accord."""

    def tick() -> None:
        while True:
            time.sleep(0.001)
            ask("/tick/0")

    def serve(client: socket.socket) -> None:
        while path := read(client):
            answer(client, path)

    threading.Thread(target=tick, daemon=True).start()
    each(listener, serve)


def pooling(listener: Listener) -> None:
    """One thread for all, on blocking sockets: the connection that it opens as it has read, it uses a while later for itself."""
    clients: list[socket.socket] = []
    due: list[tuple[float, socket.socket, str, socket.socket]] = []
    while True:
        ready, _, _ = select.select([listener, *clients], [], [], 0.001)
        if due and due[0][0] < time.monotonic():
            _, client, path, mine.socket = due.pop(0)
            ask("/tick/0")
            answer(client, path)
        for one in ready:
            if one is listener:
                clients.append(listener.accept()[0])
            elif path := read(one):
                due.append((time.monotonic() + 0.003, one, path, connect()))
            else:
                clients.remove(one)


def in_batches(listener: Listener, blocking: bool = True) -> None:
    """One thread for all: it asks for two together."""
    clients: list[socket.socket] = []
    batch: list[tuple[socket.socket, str]] = []
    while True:
        for one in select.select([listener, *clients], [], [])[0]:
            if one is listener:
                clients.append(listener.accept()[0])
                clients[-1].setblocking(blocking)
            elif path := read(one):
                batch.append((one, path))
            else:
                clients.remove(one)
        if len(batch) == 2:
            for _, path in batch:
                ask(path)
            for client, _ in batch:
                client.sendall(ANSWER)
            batch.clear()


def in_batches_unblocked(listener: Listener) -> None:
    """The same, on sockets that do not block."""
    in_batches(listener, blocking=False)


def reading_ahead(listener: Listener) -> None:
    """It reads what there is, and asks when it has answered and read a body of four bytes."""

    def serve(client: socket.socket) -> None:
        got = b""

        def more() -> bytes:
            return client.recv(4096) or sys.exit()

        while True:
            while b"\r\n\r\n" not in got:
                got += more()
            head, _, got = got.partition(b"\r\n\r\n")
            answer(client, head.split()[1].decode())
            while head.startswith(b"POST") and len(got) < 4:
                got += more()
            got = got[4 * head.startswith(b"POST") :]
            ask("/tick/0")

    each(listener, serve)


def in_pairs(listener: Listener) -> None:
    """One thread for two connections: it asks for a request of each when it has read both."""
    listener.accept()  # by whoever waits for it to listen
    one, other = listener.accept()[0], listener.accept()[0]
    while (path := read(one)) and (second := read(other)):
        ask(path)
        ask(second)
        one.sendall(ANSWER)
        other.sendall(ANSWER)


WAYS = {
    one.__name__: one
    for one in (
        handed_over,
        in_stages,
        selecting,
        before_and_after,
        with_background,
        pooling,
        in_batches,
        in_batches_unblocked,
        reading_ahead,
        in_pairs,
    )
}
with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512) as listening:
    WAYS[sys.argv[3]](listening)
