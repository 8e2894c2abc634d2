"""aiohttp: one session, eight requests at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp
from client_lines import Request, plans, report

AT_ONCE = 8


async def stream(body: bytes) -> AsyncIterator[bytes]:
    half = len(body) // 2
    yield body[:half]
    yield body[half:]


async def call(session: aiohttp.ClientSession, one: Request) -> tuple[int, int]:
    body = stream(one.body) if one.chunked and one.body is not None else one.body
    sent = session.request(one.method, one.url, data=body, headers=one.headers)
    try:
        async with sent as response:
            return response.status, len(await response.read())
    except aiohttp.ClientError as error:
        print(error, file=sys.stderr)
        return 0, 0


async def main() -> None:
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        for plan in plans():
            report(await asyncio.gather(*(call(session, one) for one in plan)))


if __name__ == "__main__":
    asyncio.run(main())
