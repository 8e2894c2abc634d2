"""A stranger's file, read by position and within a budget.

Whoever may run a program chooses what is read here. Nothing is mapped: a file that is cut short while it is read would
end the process. What would take more than the budget is refused, by a reason that is shown.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

BYTES_MAX, SECONDS_MAX = 1 << 28, 1.0  # of a file; seconds of this thread's own time: the disk's do not count
CHUNK = 3 << 18  # a multiple of the sizes of tables' entries
FOUND_MAX = 1 << 16


class Refused(Exception):
    """Why a file is read no further."""


class Span(NamedTuple):
    """A part of a file: a table, or the code of a function."""

    offset: int
    size: int


class Found(NamedTuple):
    """A place in a file, and the piece that was read there: `here` is its place in that."""

    place: int
    raw: bytes
    here: int


def open_file(path: str) -> int:
    """Open a stranger's file to read; returns its descriptor, raises OSError if it is none.

    To open a device, or to wait at a FIFO, is what a stranger may want; so is to wait for whoever holds a lease of it:
    that raises BlockingIOError.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)


class Bounded:
    """An open file; raises Refused where it is shorter than it says, or costs too much."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._left = BYTES_MAX
        self._until = time.thread_time() + SECONDS_MAX
        self.size = os.fstat(fd).st_size

    def read(self, at: int, count: int) -> bytes:
        """Return so many bytes from a place on."""
        self._left -= count
        if self._left < 0 or time.thread_time() > self._until:
            raise Refused("its tables cost too much to read")
        if at < 0 or count < 0 or at + count > self.size:
            raise Refused("it is cut, or its tables are not what they say")
        raw = os.pread(self._fd, count, at)
        if len(raw) < count:
            raise Refused("it is cut")
        return raw

    def chunks(self, at: int, count: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """Read a part piece by piece: each with its place, and with the beginning of the next."""
        end = at + count
        while at < end:
            yield at, self.read(at, min(CHUNK + overlap, end - at))
            at += CHUNK

    def find(self, text: bytes, part: Span, step: int = 1, overlap: int = 0) -> Iterator[Found]:
        """List the places of a text within a part, of those that are `step` bytes apart from its beginning."""
        left = FOUND_MAX
        for place, raw in self.chunks(part.offset, part.size, max(overlap, len(text)) - 1):
            here = raw.find(text)
            while 0 <= here < CHUNK:
                left -= 1
                if not left:
                    raise Refused("its tables cost too much to read")
                if not (place + here - part.offset) % step:
                    yield Found(place + here, raw, here)
                here = raw.find(text, here + 1)

    def words(self, stem: bytes, part: Span, longest: int) -> Iterator[tuple[int, bytes]]:
        """List the words that begin so and end with a zero byte: the place of each, and its text."""
        for found in self.find(stem, part, overlap=longest):
            end = found.raw.find(b"\0", found.here, found.here + longest)
            if end >= 0:
                yield found.place, found.raw[found.here : end]
