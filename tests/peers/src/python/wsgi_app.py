"""A bare WSGI application, for gunicorn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from answers import PAUSE, answer


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    method = environ["REQUEST_METHOD"]
    body = environ["wsgi.input"].read()
    reply = answer(method, environ["PATH_INFO"], environ["QUERY_STRING"], body)
    time.sleep(reply.sleep)
    headers = [("Content-Type", reply.kind)]
    if not reply.chunks and reply.status != HTTPStatus.NO_CONTENT:
        headers.append(("Content-Length", str(len(reply.body))))
    start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
    if reply.chunks:
        return spaced(reply.chunks)
    return [] if method == "HEAD" or not reply.body else [reply.body]


def spaced(chunks: tuple[bytes, ...]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        time.sleep(PAUSE)
