"""What is in the files that processes have mapped: each file once, within a budget for all of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ringspan.tls import evidence, places
from ringspan.tls.bounded import Refused, open_file
from ringspan.tls.evidence import Evidence
from ringspan.tls.followed import File
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.places import GO, NO_FUNCTIONS, NO_LIBRARY, NO_TLS, Places

BYTES_MAX, SECONDS_MAX = 4 << 30, 30.0
NOTHING = Places(obstacle=NO_FUNCTIONS)
TRIES = 3  # processes that use a file may end
UNREADABLE, COSTLY = "they cannot be read", "each costs too much to read"
NO_TIME = "all that is in use is too much to read"


class Content(NamedTuple):
    """What a file holds: where to attach, and what its constants tell; `real`: the path by which it was opened."""

    places: Places
    evidence: Evidence
    real: str
    is_gone: bool

    @property
    def has_tls(self) -> bool:
        """Whether it holds a TLS library, or what may be one but costs too much to read."""
        return self.evidence.holds or self.places.obstacle not in (*NO_LIBRARY, NO_TLS)


class Survey:
    """Looks into files; `left_out` counts those that it did not, by the reason."""

    def __init__(self, wanted: Wanted, bytes_max: int = BYTES_MAX, seconds_max: float = SECONDS_MAX) -> None:
        self._by_name = replace(wanted, exclude=())
        self._left, self._until = bytes_max, time.monotonic() + seconds_max
        self._known: dict[tuple[File, bool], tuple[Places, Evidence]] = {}
        self.left_out: Counter[str] = Counter()

    def look_into(self, users: list[Mapped]) -> Content | None:
        """Look into a file, by one of the processes that have mapped it; None if there is none or it cannot be read."""
        if self._left < 0 or time.monotonic() > self._until:
            self.left_out[NO_TIME] += 1
            return None
        for one in users[:TRIES]:
            with suppress(OSError):
                fd, is_gone = _open(one)
                try:
                    return self._look(fd, one, is_gone=is_gone)
                finally:
                    os.close(fd)
        self.left_out[UNREADABLE] += any(map(_may_be_file, users[:TRIES]))
        return None

    def _look(self, fd: int, one: Mapped, *, is_gone: bool) -> Content:
        real = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        key = File.of(fd), not is_gone and self._by_name(one.path, real)
        if key not in self._known:
            self._known[key] = self._read(fd, is_named=key[1])
        return Content(*self._known[key], real, is_gone)

    def _read(self, fd: int, *, is_named: bool) -> tuple[Places, Evidence]:
        found = places.find(fd) if is_named else NOTHING
        if found.language == GO and found.obstacle != NO_TLS:
            return found, Evidence()  # it has what its standard library has
        try:
            told = evidence.look_into(fd)
        except Refused:
            self.left_out[COSTLY] += found.obstacle in NO_LIBRARY
            return found, Evidence()
        self._left -= told.bytes_read
        return places.find(fd) if told.holds and not is_named else found, told


def _open(one: Mapped) -> tuple[int, bool]:
    """Open a file that a process has mapped; returns the descriptor, and whether it is there by no path any more."""
    for path in (one.through, one.path):
        with suppress(OSError):
            fd = open_file(path)
            if os.fstat(fd).st_ino == one.inode:
                return fd, False
            os.close(fd)
    return open_file(one.itself), True


def _may_be_file(one: Mapped) -> bool:
    """Not a device, nor of a process that has ended."""
    with suppress(OSError):
        os.kill(one.pid, 0)
        return not one.path.startswith(("/dev/", "/SYSV", "/memfd:", "/anon_hugepage"))
    return False
