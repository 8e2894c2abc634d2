"""The BPF ring buffer as batches of records: mmapped, copied out by column, never one callback per record.

Layout (kernel/bpf/ringbuf.c): page 0 holds the consumer position and is ours to write; page 1 holds the producer
position; then the data, mapped twice in a row so that no record wraps. Each record has an 8-byte header: length with a
busy bit (31) and a discard bit (30), then a page offset. All records of ringspan have one size: a batch is one array.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any

import numpy as np

MOST = 512  # records at once: of the most intricate targets each takes milliseconds, and other things wait
BUSY, DISCARD = np.uint32(1 << 31), np.uint32(1 << 30)


class ForeignRecord(Exception):
    """A record in the ring has not the size of ours, or more is there than it holds: the contract is broken."""


class Ring:
    """Reads one BPF ring buffer of ring_bytes (a power of two) and records of one dtype, by its map's descriptor."""

    def __init__(self, fd: int, ring_bytes: int, dtype: np.dtype[Any]) -> None:
        page = os.sysconf("SC_PAGESIZE")
        self._size = ring_bytes
        self._dtype = dtype
        self._entry = np.dtype([("length", np.uint32), ("page", np.uint32), ("record", dtype)])
        self._ours = mmap.mmap(fd, page)
        self._theirs = mmap.mmap(fd, page + 2 * ring_bytes, prot=mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._ours, np.uint64, 1)
        self._producer = np.frombuffer(self._theirs, np.uint64, 1)
        self._data_at = page
        self._fence = threading.Lock()
        self._fence.acquire()

    def drain(self) -> np.ndarray[Any, np.dtype[Any]]:
        """Return finished records, MOST at the most, as one array (a copy); raises ForeignRecord."""
        position = int(self._consumer[0])
        ready = int(self._producer[0]) - position
        if not 0 <= ready <= self._size:
            raise ForeignRecord(f"positions {ready} bytes apart in a ring of {self._size}")
        count = min(MOST, ready // self._entry.itemsize)
        self._order()
        entries: np.ndarray[Any, np.dtype[Any]] = np.ndarray(
            count, self._entry, buffer=self._theirs, offset=self._data_at + position % self._size
        )
        lengths = entries["length"].copy()
        busy = np.flatnonzero(lengths & BUSY)
        if len(busy):
            lengths = lengths[: busy[0]]
        if not len(lengths):
            return np.empty(0, self._dtype)
        sizes = lengths & ~DISCARD
        foreign = np.flatnonzero(sizes != self._dtype.itemsize)
        if len(foreign):
            raise ForeignRecord(f"a record of {int(sizes[foreign[0]])} bytes, not {self._dtype.itemsize}")
        self._order()
        kept = (lengths & DISCARD) == 0
        records = entries["record"][: len(lengths)]
        records = records.copy() if kept.all() else records[kept]
        self._order()
        self._consumer[0] = position + len(lengths) * self._entry.itemsize
        return records

    def _order(self) -> None:
        """Keep loads before from mixing with loads and stores after: a release, then an acquire (arm64 needs it)."""
        self._fence.release()
        self._fence.acquire()
