"""One end of a scripted connection, and where it is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

PORT = b"@PORT"
PATIENCE_SECONDS = 15
FAMILIES = {"v4": socket.AF_INET, "v6": socket.AF_INET6, "unix": socket.AF_UNIX}
LOOPBACK = {"v4": "127.0.0.1", "v6": "::1"}


class ScriptError(Exception):
    """A peer met something that its script did not foresee."""


@dataclass
class Place:
    """Where the server of a script listens; and what its peers share."""

    family: str = "v4"
    port: int = 0
    path: str = ""
    signals: dict[str, threading.Event] = field(default_factory=dict)
    children: list[int] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int] | str:
        return self.path or (LOOPBACK[self.family], self.port)

    def signal(self, name: str) -> threading.Event:
        return self.signals.setdefault(name, threading.Event())


@dataclass
class Peer:
    """One end of a connection."""

    sock: socket.socket
    place: Place


Step = Callable[[Peer], None]
Script = Sequence[Step]


@dataclass(frozen=True)
class Talk:
    """One connection: what each side does, in order; then each closes."""

    client: Script
    server: Script


def fill(pieces: Iterable[bytes], place: Place) -> list[bytes]:
    """The pieces with the port in place, cut where they were."""
    kept = list(pieces)
    text, out = b"".join(kept).replace(PORT, b"%05d" % place.port), []
    for piece in kept:
        out.append(text[: len(piece)])
        text = text[len(piece) :]
    return out


def expect(got: int, wanted: int) -> None:
    if got != wanted:
        raise ScriptError(f"{wanted} was expected, not {got}")
