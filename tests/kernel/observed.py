"""The process that is traced: does what it is told, line by line, and answers each with a line. It reads and writes pipes."""

from __future__ import annotations

import ctypes as ct
import json
import os
import socket
import sys
import tempfile
from typing import Any

from e2e.calls import LIBC, messages_of


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)] if size else [data]


def send_messages(sock: socket.socket, parts: list[bytes]) -> int:
    """By one sendmmsg."""
    made = messages_of([(ct.create_string_buffer(part, len(part)), len(part)) for part in parts])
    count = LIBC.sendmmsg(sock.fileno(), made, len(parts), 0)
    return sum(made[i].bytes for i in range(count))


def receive_messages(sock: socket.socket, sizes: list[int]) -> int:
    """By one recvmmsg."""
    made = messages_of([(ct.create_string_buffer(size), size) for size in sizes])
    count = LIBC.recvmmsg(sock.fileno(), made, len(sizes), socket.MSG_WAITALL, None)
    return sum(made[i].bytes for i in range(count))


class Observed:
    """One socket at a time, the listener that it may come from, and those that were put aside."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.sock = socket.socket()
        self.aside: dict[str, socket.socket] = {}

    def put_aside(self, name: str) -> int:
        self.aside[name] = self.sock
        return 0

    def take_back(self, name: str) -> int:
        self.sock = self.aside.pop(name)
        return 0

    def listen(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> int:
        self.sock, _address = self.listener.accept()
        return 0

    def connect(self, address: str, port: int) -> int:
        self.sock = socket.socket()
        self.sock.connect((address, port))
        return 0

    def send(self, data: str, piece: int, opaque: bool, messages: bool) -> int:
        """By one call: sendto, sendmsg, sendmmsg, or sendfile, whose bytes cannot be read."""
        given = data.encode("latin-1")
        if messages:
            return send_messages(self.sock, pieces(given, piece))
        if opaque:
            with tempfile.TemporaryFile() as file:
                file.write(given)
                file.flush()
                return os.sendfile(self.sock.fileno(), file.fileno(), 0, len(given))
        return self.sock.sendmsg(pieces(given, piece)) if piece else self.sock.send(given)

    def receive(self, size: int, piece: int, opaque: bool, messages: bool) -> int:
        """By one call: recvfrom, recvmsg, recvmmsg, or one that throws the bytes away."""
        if messages:
            return receive_messages(self.sock, [len(part) for part in pieces(bytes(size), piece)])
        if opaque:
            return len(self.sock.recv(size, socket.MSG_WAITALL | socket.MSG_TRUNC))
        if not piece:
            return len(self.sock.recv(size, socket.MSG_WAITALL))
        buffers = [bytearray(part) for part in pieces(bytes(size), piece)]
        return self.sock.recvmsg_into(buffers, 0, socket.MSG_WAITALL)[0]

    def receive_end(self) -> int:
        return len(self.sock.recv(1))

    def receive_error(self) -> int:
        try:
            self.sock.recv(1)
        except OSError as error:
            return int(error.errno or 0)
        return 0

    def shutdown(self) -> int:
        self.sock.shutdown(socket.SHUT_WR)
        return 0

    def close(self) -> int:
        self.sock.close()
        return 0


def main() -> None:
    socket.setdefaulttimeout(None)  # no poll() before each call
    observed = Observed()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer: Any = getattr(observed, name)(*arguments)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
