"""Clients on raw sockets that cut, reset, dawdle and crowd, with requests that can be told apart."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from peers.servers import Server

PATIENCE_SECONDS, CROWD = 10, 40


@dataclass
class Tags:
    """Numbers that no two requests share."""

    _next: itertools.count[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    given: int = 0

    def take(self) -> str:
        with self._lock:
            self.given += 1
            return f"s{next(self._next)}"


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def get(tag: str, path: str = "/id/7", more: str = "") -> bytes:
    return f"GET {path}?t={tag} HTTP/1.1\r\nHost: faults\r\n{more}\r\n".encode()


def read_answer(sock: socket.socket, most: int = 1 << 16, pause: float = 0.0) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(most)
        if not part:
            return
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0] or 0) - len(body)
    while left > 0 and (part := sock.recv(most)):
        left -= len(part)
        time.sleep(pause)


def split_head(sock: socket.socket, tag: str, chance: random.Random) -> None:
    head = get(tag)
    cut = chance.randrange(1, len(head))
    for part in (head[:cut], head[cut:]):
        sock.sendall(part)
        time.sleep(0.005)
    read_answer(sock)


def half_close(sock: socket.socket, tag: str, chance: random.Random) -> None:
    sock.sendall(get(tag))
    sock.shutdown(socket.SHUT_WR)
    read_answer(sock)


def reset_in_head(sock: socket.socket, tag: str, chance: random.Random) -> None:
    """In the target, or after the line: one that lacks its end alone is logged by nginx, and no request yet."""
    head = get(tag)
    target, line = head.index(b" HTTP"), head.index(b"\n") + 1
    sock.sendall(head[: chance.choice((chance.randrange(1, target), chance.randrange(line, len(head) - 1)))])
    time.sleep(chance.choice((0, 0.002, 0.02)))
    reset(sock)


def reset_in_body(sock: socket.socket, tag: str, chance: random.Random) -> None:
    sock.sendall(get(tag, "/echo", "Content-Length: 50000\r\n").replace(b"GET", b"POST", 1))
    sock.sendall(b"x" * chance.randrange(49000))
    time.sleep(chance.choice((0, 0.002, 0.02)))
    reset(sock)


def reset_in_answer(sock: socket.socket, tag: str, chance: random.Random) -> None:
    sock.sendall(get(tag, "/big"))
    for _ in range(chance.randrange(4)):
        sock.recv(4096)
    reset(sock)


def read_slowly(sock: socket.socket, tag: str, chance: random.Random) -> None:
    sock.sendall(get(tag, "/big"))
    read_answer(sock, 1 << 14, 0.004)


def stay(sock: socket.socket, tag: str, chance: random.Random) -> None:
    """The connection is closed with its answer on the way: by FIN, or by RST if that has come already."""
    sock.sendall(get(tag))
    time.sleep(chance.choice((0, 0.001)))


POLITE = (split_head, half_close, read_slowly)
RAW = (*POLITE, reset_in_head, reset_in_body, reset_in_answer, stay)


class RawClients:
    """Clients on raw sockets, each with a random fault of its own, or polite ones that await their answers."""

    def __init__(self, tags: Tags, seed: int, *, polite: bool = False) -> None:
        self._tags = tags
        self._chance = random.Random(seed)
        self._ways = POLITE if polite else RAW

    def one(self, server: Server) -> None:
        with suppress(OSError), socket.socket() as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            time.sleep(0.005)  # while a server is away, connects fail at once
            sock.connect(("127.0.0.1", server.port))
            self._chance.choice(self._ways)(sock, self._tags.take(), self._chance)

    def crowd(self, server: Server) -> None:
        """Many requests that are in flight at once, for longer than any other."""
        with suppress(OSError), ExitStack() as stack:
            socks = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(CROWD)]
            for sock in socks:
                sock.settimeout(PATIENCE_SECONDS)
                sock.sendall(get(self._tags.take(), "/slow").replace(b"?", b"?ms=300&", 1))
            for sock in socks:
                read_answer(sock)
