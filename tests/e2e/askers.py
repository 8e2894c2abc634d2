"""Many connections at once that ask for paths with numbers, and what the spans of it say of who is whose child."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from .tracer import Row

Key = tuple[str, str]


def ask(port: int, paths: Iterable[str], connections: int = 100) -> list[int]:
    """The statuses of all, in no order: each connection, kept open, takes the next path once it has its answer."""
    left = iter(paths)

    async def connection() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        out = []
        for path in left:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            out.append(int(head.split()[1]))
            if b"chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            elif b"content-length:" in head:
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            if b"connection: close" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return out

    async def all_of_them() -> list[list[int]]:
        return await asyncio.gather(*(connection() for _ in range(connections)))

    return [status for some in asyncio.run(all_of_them()) for status in some]


def ask_ahead(port: int, paths: Iterable[str], bodies: bool) -> list[int]:
    """The statuses of all, two by two on one connection: both at once; or of the first a body comes late, with the second."""
    left, statuses = iter(paths), []
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:

        def take() -> None:
            statuses.append(int(answers.readline().split()[1]))
            while answers.readline() != b"\r\n":
                pass

        for one, other in zip(left, left, strict=True):
            second = f"GET {other} HTTP/1.1\r\nHost: relay\r\n\r\n"
            if bodies:
                connection.sendall(f"POST {one} HTTP/1.1\r\nHost: relay\r\nContent-Length: 4\r\n\r\n".encode())
                take()
                connection.sendall(f"body{second}".encode())
            else:
                connection.sendall(f"GET {one} HTTP/1.1\r\nHost: relay\r\n\r\n{second}".encode())
                take()
            take()
    return statuses


def ask_side_by_side(port: int, paths: Iterable[str], header: str) -> list[int]:
    """The statuses of all, two by two on two connections: the second of each two with this header."""
    left, statuses = iter(paths), []
    with socket.create_connection(("127.0.0.1", port)) as one, socket.create_connection(("127.0.0.1", port)) as other:
        for first, second in zip(left, left, strict=True):
            one.sendall(f"GET {first} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
            other.sendall(f"GET {second} HTTP/1.1\r\nHost: relay\r\n{header}\r\n\r\n".encode())
            statuses += [int(each.recv(4096).split()[1]) for each in (one, other)]
    return statuses


def path(row: Row) -> str:
    attributes = row["attributes"]
    return attributes.get("url.path") or urlsplit(attributes.get("url.full", "")).path


def end(row: Row) -> tuple[str, int]:
    """Whose span it is, by its side and the server's port."""
    attributes = row["attributes"]
    peer = attributes.get("network.peer.port") if row["kind"] == "client" else attributes["server.port"]
    return row["kind"], peer


def key(row: Row) -> Key:
    return row["trace_id"], row["span_id"]


def parents(rows: list[Row]) -> list[tuple[Row, Row | None]]:
    """Each row with its parent's; None if it has none, or if that is not among them."""
    known = {key(row): row for row in rows}
    assert len(known) == len(rows)
    return [(row, known.get((row["trace_id"], row["parent_span_id"] or ""))) for row in rows]


def strangers(rows: list[Row]) -> list[tuple[str, str]]:
    """Children whose parents are of another request, or of none that is known."""
    found = []
    for row, parent in parents(rows):
        if row["parent_span_id"] and not (parent and path(parent).rpartition("/")[2] == path(row).rpartition("/")[2]):
            found.append((path(row), path(parent) if parent else "?"))
    return found
