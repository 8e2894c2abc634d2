"""New executable mappings on this host as they are made, by perf's own records of them: exec and dlopen alike."""

from __future__ import annotations

import ctypes as ct
import mmap
import os
import platform
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringspan.probe.load import ENABLE, PERF_EVENT_OPEN, PERF_FLAG_FD_CLOEXEC
from ringspan.tls.libraries import Mapped

SOFTWARE, DUMMY = 1, 9  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY
FLAGS = 1 << 8 | 1 << 14 | 1 << 23  # perf_event_attr.mmap, .watermark and .mmap2
WATERMARK = 1  # byte: each record wakes whoever waits
ATTRIBUTE = struct.Struct("<IIQQQQQIIQQ")  # struct perf_event_attr up to its version 1
HEAD = struct.Struct("<QQ")  # of struct perf_event_mmap_page: data_head, data_tail
HEAD_AT, TAIL_AT = 1024, 1032
HEADER, MMAP2 = struct.Struct("<IHH"), struct.Struct("<IIQQQIIQQII")  # struct perf_event_header; PERF_RECORD_MMAP2
RECORD_LOST, RECORD_MMAP2 = 2, 10
ONLINE = Path("/sys/devices/system/cpu/online")
PAGES = 16  # some 600 mappings between two looks; what finds no room is told, and all processes are looked at


class Key(NamedTuple):
    """What tells a file from all others."""

    major: int
    minor: int
    inode: int
    generation: int


class New(NamedTuple):
    """A mapping, and the key of its file."""

    mapped: Mapped
    key: Key


def online() -> Iterator[int]:
    """List the processors that run."""
    for part in ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


class Mappings:
    """Watches all processors; `told` is woken by what they map. Raises OSError where that is not allowed."""

    def __init__(self, told: select.epoll) -> None:
        self._page = os.sysconf("SC_PAGESIZE")
        self._rings = [self._open(cpu, told) for cpu in online()]
        self.lost = False

    def _open(self, cpu: int, told: select.epoll) -> mmap.mmap:
        libc = ct.CDLL(None, use_errno=True)
        fields = SOFTWARE, ATTRIBUTE.size, DUMMY, 0, 0, 0, FLAGS, WATERMARK, 0, 0, 0
        attribute = ct.create_string_buffer(ATTRIBUTE.pack(*fields))
        number = PERF_EVENT_OPEN.get(platform.machine(), 0)
        fd = libc.syscall(number, attribute, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC)
        if fd < 0:
            raise OSError(ct.get_errno(), os.strerror(ct.get_errno()))
        try:
            ring = mmap.mmap(fd, self._page * (PAGES + 1))
            told.register(fd, select.EPOLLIN)
            libc.ioctl(fd, ct.c_ulong(ENABLE), 0)
        finally:
            os.close(fd)  # the mapping keeps what it is of, and so what was registered: epoll(7)
        return ring

    def take(self) -> Iterator[New]:
        """Yield what was mapped since; `lost` says that there was more."""
        for ring in self._rings:
            head, tail = HEAD.unpack_from(ring, HEAD_AT)
            while tail < head:
                kind, _, size = HEADER.unpack(self._bytes(ring, tail, HEADER.size))
                if kind == RECORD_MMAP2:
                    yield self._new(self._bytes(ring, tail + HEADER.size, size - HEADER.size))
                self.lost |= kind == RECORD_LOST
                tail += size
            struct.pack_into("<Q", ring, TAIL_AT, tail)

    def _bytes(self, ring: mmap.mmap, at: int, count: int) -> bytes:
        """Copy a part of a ring, whose end may lie before its beginning."""
        size = self._page * PAGES
        begin = at % size
        first = ring[self._page + begin : self._page + min(begin + count, size)]
        return first + ring[self._page : self._page + count - len(first)]

    def _new(self, raw: bytes) -> New:
        pid, _, _, _, _, major, minor, inode, generation, _, _ = MMAP2.unpack_from(raw)
        path = os.fsdecode(raw[MMAP2.size :].split(b"\0")[0])
        return New(Mapped(pid, path, inode), Key(major, minor, inode, generation))
