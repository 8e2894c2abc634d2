"""The TLS libraries in use on this host: which of them are followed, and why not the others."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ringspan.printable import printable
from ringspan.probe import tls_functions
from ringspan.tls import elf, libraries
from ringspan.tls.libraries import DELETED, Mapped, Wanted

SURE = ("libssl", "libgnutls.", "libboringssl")
NO_FUNCTIONS = "no function of OpenSSL or GnuTLS is named in it"
GONE = "replaced since it was loaded: its processes must be restarted"
OTHER = {"libssl3.": "NSS", "libmbedtls": "Mbed TLS", "libwolfssl": "wolfSSL"}


class Library(NamedTuple):
    """A file in use that holds a TLS library, or is named like one; `obstacle`: why it is not followed, if so."""

    path: str
    processes: int
    obstacle: str

    def line(self) -> str:
        """Print it."""
        count = f"{self.processes} process{'es' if self.processes != 1 else ''}"
        if self.obstacle:
            return f"no  TLS of {printable(self.path)} ({count}): not followed: {self.obstacle}"
        return f"ok  TLS of {printable(self.path)} ({count}): followed"


def in_use() -> list[Library]:
    """Look into what all processes have mapped, each file once."""
    users: dict[tuple[str, int], list[Mapped]] = defaultdict(list)
    for one in libraries.running():
        users[one.path, one.inode].append(one)
    found = (_judged(path, some) for (path, _), some in sorted(users.items()))
    return [one for one in found if one]


def _judged(path: str, some: list[Mapped]) -> Library | None:
    name = path.removesuffix(DELETED).rpartition("/")[2]
    other = next(
        (f"{words} is not one that is followed" for prefix, words in OTHER.items() if name.startswith(prefix)), ""
    )
    if not other and not Wanted()(path.removesuffix(DELETED)):
        return None
    obstacle = other or _obstacle(path, some[0])
    named = name.startswith(SURE)  # others merely use one, mostly
    return Library(path, len(some), obstacle) if not obstacle or named or other else None


def _obstacle(path: str, one: Mapped) -> str:
    if path.endswith(DELETED):
        return GONE
    for place in (Path(one.through), Path(path)):
        with suppress(OSError):
            if place.stat().st_ino == one.inode:
                return (
                    "" if tls_functions.are_enough(elf.functions(str(place), tls_functions.BY_NAME)) else NO_FUNCTIONS
                )
    return GONE if os.path.exists(one.through) else "its file cannot be read"  # noqa: PTH110
