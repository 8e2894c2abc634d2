"""The TLS libraries in use on this host: which of them are followed, and why not the others."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ringspan.printable import printable
from ringspan.tls import libraries, places
from ringspan.tls.libraries import DELETED, Mapped, Wanted
from ringspan.tls.places import GO, NO_LIBRARY, Places

SURE = ("libssl", "libgnutls.", "libboringssl")
GONE = "replaced since it was loaded: its processes must be restarted"
UNREADABLE = "its file cannot be read"
OTHER = {"libssl3.": "NSS", "libmbedtls": "Mbed TLS", "libwolfssl": "wolfSSL"}


class Library(NamedTuple):
    """A file in use that holds a TLS library, or is named like one; `obstacle`: why it is not followed, if so."""

    path: str
    processes: int
    obstacle: str
    version: str = ""

    def line(self) -> str:
        """Print it."""
        count = f"{self.processes} process{'es' if self.processes != 1 else ''}"
        built = f", {printable(self.version)}" if self.version else ""
        if self.obstacle:
            return f"no  TLS of {printable(self.path)} ({count}{built}): not followed: {printable(self.obstacle)}"
        return f"ok  TLS of {printable(self.path)} ({count}{built}): followed"


def in_use() -> list[Library]:
    """Look into what all processes have mapped, each file once."""
    users: dict[tuple[str, bytes, int], list[Mapped]] = defaultdict(list)
    for one in libraries.running():
        users[one.path, one.device, one.inode].append(one)
    found = (_judged(path, some) for (path, _, _), some in sorted(users.items()))
    return [one for one in found if one]


def _judged(path: str, some: list[Mapped]) -> Library | None:
    name = path.removesuffix(DELETED).rpartition("/")[2]
    other = next(
        (f"{words} is not one that is followed" for prefix, words in OTHER.items() if name.startswith(prefix)), ""
    )
    if not other and not Wanted()(path.removesuffix(DELETED)):
        return None
    found = Places(obstacle=other) if other else _look_into(path, some[0])
    named = name.startswith(SURE)  # others merely use one, mostly
    told = named or other or found.language == GO or found.obstacle not in (*NO_LIBRARY, GONE, UNREADABLE)
    return Library(path, len(some), found.obstacle, found.version) if told else None


def _look_into(path: str, one: Mapped) -> Places:
    if path.endswith(DELETED):
        return Places(obstacle=GONE)
    for place in (Path(one.through), Path(path)):
        with suppress(OSError):
            if place.stat().st_ino == one.inode:
                return places.find_in(str(place))
    return Places(obstacle=GONE if os.path.exists(one.through) else UNREADABLE)  # noqa: PTH110
