"""Names and images of containers, from the API of Docker's engine, which Podman's service speaks too.

GET /containers/json, then GET /events (Docker Engine API 1.24): containers that begin are known before they are asked
for.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ringspan.directory import images
from ringspan.directory.keep import Directory, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

LIST_S, ANSWER_MAX, LINE_MAX = 5.0, 16 << 20, 1 << 20
LIST = "/containers/json?all=true"
CHANGES = {"type": ["container"], "event": ["create", "start", "rename", "destroy"]}
COMPOSED = {"service.name": "com.docker.compose.service", "service.namespace": "com.docker.compose.project"}
EVENTS = f"/events?filters={quote(json.dumps(CHANGES))}"


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(connection: _Connection, what: str) -> http.client.HTTPResponse:
    connection.request("GET", what)
    answer = connection.getresponse()
    if answer.status != 200:
        raise Unavailable(f"HTTP status {answer.status} to GET {what.partition('?')[0]}")
    return answer


def _list(path: str) -> dict[str, dict[str, str]]:
    connection = _Connection(path, LIST_S)
    try:
        text = _ask(connection, LIST).read(ANSWER_MAX + 1)
    finally:
        connection.close()
    if len(text) > ANSWER_MAX:
        raise Unavailable(f"an answer of more than {ANSWER_MAX >> 20} MB")
    return {one["Id"]: _attributes(one) for one in json.loads(text)}


def _attributes(container: dict[str, Any]) -> dict[str, str]:
    """Return what a container is called; its first name, since a link gives it others."""
    names = [name.removeprefix("/") for name in container.get("Names") or () if "/" not in name.removeprefix("/")]
    image = images.attributes(container.get("Image") or "")
    labels = container.get("Labels") or {}
    composed = {key: str(labels.get(label, "")) for key, label in COMPOSED.items()}
    return {
        "container.name": names[0] if names else "",
        "container.image.id": container.get("ImageID") or "",
        **image,
        **composed,
    }


def _find(path: str) -> Iterator[dict[str, dict[str, str]]]:
    """List, and again whenever a container begins, ends or is renamed; raises Unavailable."""
    events = _Connection(path, LIST_S)
    try:
        told = _ask(events, EVENTS)
        if events.sock:
            events.sock.settimeout(None)
        yield _list(path)
        while told.readline(LINE_MAX):
            yield _list(path)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{path}: {getattr(error, 'strerror', None) or error!r}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unavailable(f"{path}: this is not the Docker Engine's API") from error
    finally:
        events.close()


def directory(path: str) -> Directory:
    """Return the names of the containers of the engine that listens on a Unix socket."""
    return Directory(f"container runtime {path}", lambda _: _find(path))
