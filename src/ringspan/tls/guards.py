"""Files that are followed, and what tells that one is about to be written to: its breakpoints must be gone before.

A lease (F_SETLEASE in fcntl(2)) holds whoever opens the file to write, or cuts it short, until it is given back; file
systems that have none, or files of other users' without CAP_LEASE, have inotify(7), which tells of a change soon after.
"""

from __future__ import annotations

import ctypes as ct
import errno
import fcntl
import os
import signal
import struct
from contextlib import suppress

IN_MODIFY, IN_FLAGS = 0x2, os.O_CLOEXEC | os.O_NONBLOCK
EVENT = struct.Struct("<iIII")  # struct inotify_event
READ_BYTES = 1 << 14


class Guards:
    """Guards files by their descriptors, each open to read alone."""

    def __init__(self) -> None:
        self._leased: set[int] = set()
        self._watched: dict[int, int] = {}  # inotify's numbers
        self._libc = ct.CDLL(None, use_errno=True)
        self._inotify = int(self._libc.inotify_init1(IN_FLAGS))
        self._told = False
        signal.signal(signal.SIGIO, self._tell)

    def add(self, fd: int) -> None:
        """Guard a file; raises BlockingIOError while it is open to be written, OSError if it cannot be guarded."""
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self._leased.add(fd)
        except BlockingIOError:
            raise
        except OSError:
            self._watch(fd)

    def _watch(self, fd: int) -> None:
        number = self._libc.inotify_add_watch(self._inotify, f"/proc/self/fd/{fd}".encode(), IN_MODIFY)
        if number < 0:
            code = ct.get_errno()
            raise OSError(code, os.strerror(code))
        self._watched[number] = fd

    def remove(self, fd: int) -> None:
        """Let whoever waits for a file have it."""
        if fd in self._leased:
            self._leased.remove(fd)
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        for number in [one for one, of in self._watched.items() if of == fd]:
            del self._watched[number]
            self._libc.inotify_rm_watch(self._inotify, number)

    def broken(self) -> list[int]:
        """Return the descriptors of files that someone waits to write to, or has written to."""
        found = [self._watched[number] for number in self._events() if number in self._watched]
        if self._told:
            self._told = False  # first: what is told from now on is looked at next time
            found += [fd for fd in self._leased if fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK]
        return list(dict.fromkeys(found))

    def _tell(self, *_about: object) -> None:
        self._told = True

    def _events(self) -> list[int]:
        try:
            raw = os.read(self._inotify, READ_BYTES) if self._watched else b""
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return []
        numbers, at = [], 0
        while at < len(raw):
            number, _, _, name_bytes = EVENT.unpack_from(raw, at)
            numbers.append(number)
            at += EVENT.size + name_bytes
        return numbers
