"""A WSGI application: asks UPSTREAM for the path that it is asked for; each thread keeps a connection, as clients' pools do."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

PATIENCE_SECONDS = 10
upstream = urlsplit(os.environ["UPSTREAM"])
mine = threading.local()


def ask(path: str) -> int:
    """The upstream's status; 502 if it cannot be reached. A time-out has Python poll its socket before each call."""
    if not hasattr(mine, "connection"):
        mine.connection = http.client.HTTPConnection(upstream.netloc, timeout=PATIENCE_SECONDS)
    try:
        mine.connection.request("GET", path)
        answer = mine.connection.getresponse()
        answer.read()
    except OSError:
        mine.connection.close()
        return 502
    return answer.status


def app(environ: dict[str, str], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Relay; twice if the path says so."""
    path = environ["PATH_INFO"]
    status = ask(path)
    if path.startswith("/twice/"):
        status = ask(path)
    start_response(f"{status} Relayed", [("Content-Length", "8")])
    return [b"relayed\n"]
