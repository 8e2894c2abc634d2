"""Records of one series, found by hashing their columns: no text is decoded for a record, only for a group."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ringspan import contract, fingerprints
from ringspan.fingerprints import Mixer, server_ports

Array = np.ndarray[Any, np.dtype[Any]]
CLIENT, SERVER = contract.number("ROLE_CLIENT"), contract.number("ROLE_SERVER")
CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
SLASH, AF_UNIX = ord("/"), 1
HOST_MAX = contract.number("HOST_MAX")
UNIX_PATH_WORDS = -(-contract.number("UNIX_PATH_MAX") // 8)  # the last holds a part of comm: one series more to look up
# All fixed fields stand behind the texts: one strided copy of them, and every column is close at hand.
FIRST_FIXED = "version"


def _fixed_fields() -> tuple[np.dtype[Any], int]:
    fields: Any = contract.RECORD.fields
    base = fields[FIRST_FIXED][1]
    names = [name for name in contract.RECORD.names or () if fields[name][1] >= base]
    formats, offsets = [fields[name][0] for name in names], [fields[name][1] - base for name in names]
    dtype = np.dtype({
        "names": names, "formats": formats, "offsets": offsets, "itemsize": contract.RECORD.itemsize - base
    })  # fmt: skip
    return dtype, base


FIXED, BASE = _fixed_fields()


def fixed(batch: Array) -> Array:
    """Return the fixed fields of a batch, copied close together."""
    return np.ndarray(len(batch), FIXED, buffer=batch, offset=BASE, strides=(contract.RECORD.itemsize,)).copy()


def words(batch: Array, name: str, count: int) -> Array:
    """Return the first 8 * count bytes of a text as numbers, one row a record."""
    fields: Any = contract.RECORD.fields
    strides = (contract.RECORD.itemsize, 8)
    return np.ndarray((len(batch), count), np.uint64, buffer=batch, offset=fields[name][1], strides=strides)


def seconds(columns: Array) -> Array:
    """Return durations as spans have them: the difference of two u64, never below 0."""
    out: Array = (columns["end_ktime_ns"] - columns["start_ktime_ns"]).astype(np.int64)
    return np.maximum(out, 0) / 1e9


class Groups(NamedTuple):
    """Records by group: each group's hash and first record, and each record's group."""

    hashes: list[int]
    first: list[int]
    of_record: Array


class Grouping:
    """Groups records by all that their metrics' attributes are made of."""

    def __init__(self) -> None:
        self._mixer = Mixer()
        self.by_port = False  # whether a service may be called otherwise on another of its ports

    def groups(self, batch: Array, columns: Array, routes: Array | None = None) -> Groups:
        """Group a batch (its fixed columns are given too, and the numbers of its routes)."""
        telling = _telling(batch, columns)
        if self.by_port:
            telling = chain([server_ports(columns)], telling)
        if routes is not None:
            telling = chain([routes.astype(np.uint64)], telling)
        hashes = self._mixer.mix(len(batch), telling)
        each, first, of_record = np.unique(hashes, return_index=True, return_inverse=True)
        return Groups(each.tolist(), first.tolist(), of_record)


def _packed(columns: Array, **shifts: int) -> Array:
    """Return small columns side by side in one, each shifted by so many bits."""
    out = np.zeros(len(columns), np.uint64)
    for name, shift in shifts.items():
        out |= columns[name].astype(np.uint64) << np.uint64(shift)
    return out


def _telling(batch: Array, columns: Array) -> Iterator[Array]:
    """All that tells one series from another, as columns of 64 bits."""
    yield _packed(columns, status=0, error_number=16, kind=32, role=40, failure=48, http_minor=56)
    yield _packed(columns, tgid=0, family=32, tls=40)
    yield columns["process_start_ns"]
    yield from words(batch, "method", 2).T
    clients = columns["role"] == CLIENT
    if clients.any():
        for column in _server_names(batch, columns, clients):
            yield np.where(clients, column, np.uint64(0))


def _server_names(batch: Array, columns: Array, clients: Array) -> Iterator[Array]:
    """Whom a client called: Host, else the socket's address; of a target that is no path, its endpoint."""
    longest = min(int(columns["host_bytes"][clients].max()), HOST_MAX)
    yield from words(batch, "host", (longest + 7) // 8).T
    yield from np.ascontiguousarray(columns["remote_address"]).view(np.uint64).reshape(-1, 2).T
    if (columns["family"] == AF_UNIX).any():
        yield from words(batch, "unix_path", UNIX_PATH_WORDS).T
    yield columns["remote_port"].astype(np.uint64)
    is_path = words(batch, "target", 1)[:, 0].astype(np.uint8) == SLASH
    if not is_path[clients].all():
        for column in fingerprints.paths(batch):
            yield np.where(is_path, np.uint64(0), column)
