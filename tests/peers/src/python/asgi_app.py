"""A bare ASGI application, for uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from answers import PAUSE, Answer, answer

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    reply = answer(scope["method"], scope["path"], scope["query_string"].decode(), body)
    await asyncio.sleep(reply.sleep)
    await respond(reply, send)


async def respond(reply: Answer, send: Send) -> None:
    headers = [(b"content-type", reply.kind.encode())]
    if not reply.chunks and reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for chunk in reply.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(PAUSE)
    await send({"type": "http.response.body", "body": reply.body})
