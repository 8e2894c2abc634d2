"""A server on one event loop: relay_asyncio.py PORT UPSTREAM asks UPSTREAM for the path that it is asked for.

/wait/ asks after a while, /later/ after it has answered; and with TICK_MS in the environment it asks for /tick/0 of its own
accord that often.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
upstream = urlsplit(sys.argv[2])
idle: list[Streams] = []
tasks: set[asyncio.Task[None]] = set()


async def ask(path: str) -> None:
    """One request, on a connection of the pool."""
    reader, writer = idle.pop() if idle else await asyncio.open_connection(upstream.hostname, upstream.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: upstream\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    idle.append((reader, writer))


async def ask_later(path: str) -> None:
    """The same, after a while."""
    await asyncio.sleep(random.random() * 0.005)
    await ask(path)


def in_background(path: str) -> None:
    """Begin to ask, without waiting for it."""
    task = asyncio.create_task(ask_later(path))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until its client leaves."""
    while head := await read_head(reader):
        path = head.split()[1].decode()
        if path.startswith("/later/"):
            in_background(path)
        elif path.startswith("/wait/"):
            await ask_later(path)
        else:
            await ask(path)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """A request's head; nothing at the end of the stream."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def main() -> None:
    """Serve until killed."""
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512):
        while True:
            tick = float(os.environ.get("TICK_MS", "0")) / 1000
            await asyncio.sleep(tick or 3600)
            await ask("/tick/0")


asyncio.run(main())
