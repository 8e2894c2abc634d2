"""Like records found by hashing columns: nothing is decoded for a record, only for the first of a group.

Multipliers are drawn anew by every process, so that no peer can choose texts that collide: sums of halves of columns,
of which the upper half counts (multilinear hashing), twice. To multiply a column whole would not do, whatever by: its
highest bit goes through as it is, so that two texts could be chosen whose differences cancel.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ringspan import contract

Array = np.ndarray[Any, np.dtype[Any]]
TARGET_MAX = contract.number("TARGET_MAX")
SERVER = contract.number("ROLE_SERVER")
MIXED_MAX = 160  # columns of 64 bits: a target and a host of full length among them
HALF, LOWER = np.uint64(32), np.uint64((1 << 32) - 1)


class Mixer:
    """Hashes columns of 64 bits to one."""

    def __init__(self) -> None:
        self._multipliers = [tuple(np.uint64(secrets.randbits(64)) for _ in range(4)) for _ in range(MIXED_MAX)]

    def mix(self, rows: int, columns: Iterable[Array]) -> Array:
        """Return a hash for each row."""
        multipliers = iter(self._multipliers)
        upper, lower = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
        for column in columns:
            low, high = column & LOWER, column >> HALF
            a, b, c, d = next(multipliers)
            upper += low * a + high * b
            lower += low * c + high * d
        return (upper & ~LOWER) | (lower >> HALF)


def processes(batch: Array) -> Iterator[Array]:
    """What tells one process, in one role, from another."""
    yield batch["tgid"].astype(np.uint64) | batch["role"].astype(np.uint64) << np.uint64(32)
    yield batch["process_start_ns"]


def server_ports(batch: Array) -> Array:
    """Return the port of the server's end of each record."""
    ports = np.where(batch["role"] == SERVER, batch["local_port"], batch["remote_port"])
    return ports.astype(np.uint64)


def paths(batch: Array) -> Iterator[Array]:
    """Targets up to a query or fragment, as columns of 64 bits."""
    fields: Any = contract.RECORD.fields
    longest = min(int(batch["target_bytes"].max()), TARGET_MAX)
    size = -(-max(longest, 1) // 8) * 8
    strides = (contract.RECORD.itemsize, 1)
    whole = np.ndarray((len(batch), size), np.uint8, buffer=batch, offset=fields["target"][1], strides=strides).copy()
    marks = (whole == ord("?")) | (whole == ord("#"))
    ends = np.where(marks.any(1), marks.argmax(1), size)
    whole[np.arange(size) >= ends[:, None]] = 0
    yield from np.ascontiguousarray(whole).view(np.uint64).T
