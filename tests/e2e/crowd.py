"""Both ends of very many connections, in a process of its own: `python crowd.py PORTS`, told what to do line by line.

`open N` opens N connections, each with a request that is not complete; `drip` sends one byte more on each; `finish`
completes and answers all; `leave` closes all. Each is answered by a line: how many connections it was done on. The
answer to /slow/N has a body of N bytes, so that a request and its answer can be told from others.
"""

from __future__ import annotations

import itertools
import resource
import socket
import sys

HEAD = b"GET /slow/%d HTTP/1.1\r\nHost: a\r\nX-Slow: "
PER_ADDRESS = 20_000


class Crowd:
    def __init__(self, ports: list[int]) -> None:
        self.listeners = [socket.create_server(("", port), backlog=4096) for port in ports]
        self.pairs: list[tuple[int, socket.socket, socket.socket]] = []
        self.numbers = itertools.count()

    def open(self, count: int) -> None:
        for _ in range(count):
            number = next(self.numbers)
            listener = self.listeners[number % len(self.listeners)]
            port = listener.getsockname()[1]
            address = f"127.{port >> 8}.{port & 255}.{2 + number // PER_ADDRESS}"
            client = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
            server, _ = listener.accept()
            client.sendall(HEAD % number)
            server.recv(4096)
            self.pairs.append((number, client, server))

    def drip(self, _count: int) -> None:
        for _, client, server in self.pairs:
            client.sendall(b"x")
            server.recv(4096)

    def finish(self, _count: int) -> None:
        for number, client, server in self.pairs:
            client.sendall(b"\r\n\r\n")
            server.recv(4096)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % number + number * b"b")
            left = number
            while left > 0:
                left -= len(client.recv(1 << 20))

    def leave(self, _count: int) -> None:
        for _, client, server in self.pairs:
            client.close()
            server.close()
        self.pairs = []


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd([int(port) for port in sys.argv[1:]])
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, count = line.strip().partition(" ")
        getattr(crowd, what)(int(count or 0))
        print(len(crowd.pairs), flush=True)


if __name__ == "__main__":
    main()
