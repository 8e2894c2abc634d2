"""Requests by endpoint, status and process, for the live output: whole batches, grouped by column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ringspan import contract, failures, redact, target
from ringspan.spans import KNOWN_METHODS, text

Batch = np.ndarray[Any, np.dtype[Any]]
CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
CLIENT, SERVER = contract.number("ROLE_CLIENT"), contract.number("ROLE_SERVER")
ENDPOINTS_MAX = 10_000
TALLIES_MAX = 4 * ENDPOINTS_MAX
OVERFLOW = "(other)"
BUCKETS_PER_OCTAVE, BUCKETS = 4, 160
REMEMBERED_S = 5.0


def printable(text: str) -> str:
    """Escape what a terminal would act on: control and formatting characters (a peer chooses its paths)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Key(NamedTuple):
    """What is counted apart."""

    endpoint: str
    method: str
    status: int
    process: str


@dataclass
class Tally:
    """One key's count and the histogram of its durations (buckets grow by 2**(1/4) from 1 us)."""

    count: int = 0
    errors: int = 0
    buckets: np.ndarray[Any, np.dtype[np.int64]] = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))

    def quantile_ms(self, q: float) -> float:
        """Return a quantile of the duration in milliseconds (the upper bound of its bucket: 19% wide)."""
        return quantile_ms(self.buckets, q)


def quantile_ms(buckets: np.ndarray[Any, np.dtype[np.int64]], q: float) -> float:
    """Return the upper bound, in milliseconds, of the bucket that holds a quantile."""
    total = int(buckets.sum())
    if not total:
        return 0.0
    bucket = int(np.searchsorted(np.cumsum(buckets), q * total))
    return float(2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE) / 1000)


def bucket_of(duration_ns: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the bucket of each duration."""
    microseconds = np.maximum(duration_ns.astype(np.float64) / 1000, 1.0)
    return np.minimum((np.log2(microseconds) * BUCKETS_PER_OCTAVE).astype(np.int64), BUCKETS - 1)


class Ends:
    """Tells the second end of an exchange that both a client and a server of this host have reported."""

    def __init__(self) -> None:
        self._recent: dict[int, list[tuple[float, Batch]]] = {CLIENT: [], SERVER: []}

    def first_reports(self, batch: Batch, now: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which records are the first to report their exchange: ports and first byte's sequence number tell."""
        keys = _join_keys(batch)
        first = np.ones(len(batch), bool)
        joinable = (batch["kind"] != CONNECT_FAILURE) & (batch["tcp_seq"] != 0)
        client, server = joinable & (batch["role"] == CLIENT), joinable & (batch["role"] == SERVER)
        for mine, theirs, role in ((client, server, SERVER), (server, client, CLIENT)):
            if mine.any():
                earlier = [known for _, known in self._recent[role]]
                if role == SERVER:  # both in one batch: the server's report counts
                    earlier.append(keys[theirs])
                first[mine] = ~np.isin(keys[mine], np.concatenate(earlier)) if earlier else True
        for role, which in ((CLIENT, client), (SERVER, server)):
            kept = [(when, known) for when, known in self._recent[role] if now - when < REMEMBERED_S]
            self._recent[role] = [*kept, (now, keys[which])] if which.any() else kept
        return first


def _join_keys(batch: Batch) -> Batch:
    local, remote = batch["local_port"].astype(np.uint64), batch["remote_port"].astype(np.uint64)
    is_client = batch["role"] == CLIENT
    ports = np.where(is_client, local << np.uint64(16) | remote, remote << np.uint64(16) | local)
    return ports << np.uint64(32) | batch["tcp_seq"].astype(np.uint64)


class Counts:
    """Cumulative tallies; an exchange seen from both its ends counts once."""

    def __init__(self) -> None:
        self.tallies: dict[Key, Tally] = {}
        self.records = 0
        self._ends = Ends()
        self._labels: dict[int, tuple[str, str]] = {}
        self._endpoints: set[str] = set()

    def add(self, batch: Batch, now: float) -> None:
        """Count a batch of records."""
        self.records += len(batch)
        batch = batch[self._ends.first_reports(batch, now)]
        if not len(batch):
            return
        columns = [
            batch[name].astype(np.uint64)
            for name in ("endpoint_hash", "status", "failure", "error_number", "kind", "tgid")
        ]
        order = np.lexsort(columns)
        changed = np.zeros(len(batch), bool)
        changed[0] = True
        for column in columns:
            changed[1:] |= np.diff(column[order]) != 0
        # Without a whole head there is no hash: each such record is a group.
        changed |= columns[0][order] == 0
        starts = np.flatnonzero(changed)
        buckets = bucket_of(batch["end_ktime_ns"] - batch["start_ktime_ns"])[order]
        for start, end in zip(starts, [*starts[1:], len(batch)], strict=True):
            self._add_group(batch[order[start]], buckets[start:end])

    def _add_group(self, record: Any, buckets: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        key = self._key(record)
        if key not in self.tallies and len(self.tallies) >= TALLIES_MAX:
            key = Key(OVERFLOW, "", key.status, "")
        tally = self.tallies.setdefault(key, Tally())
        tally.count += len(buckets)
        status = int(record["status"])
        if record["failure"] or status >= 400:
            tally.errors += len(buckets)
        tally.buckets += np.bincount(buckets, minlength=BUCKETS)

    def _key(self, record: Any) -> Key:
        process = printable(record["comm"].decode(errors="backslashreplace"))
        if record["kind"] == CONNECT_FAILURE:
            return Key(failures.connect_word(int(record["failure"]), int(record["error_number"])), "", 0, process)
        endpoint, method = self._label(record)
        return Key(endpoint, method, int(record["status"]), process)

    def _label(self, record: Any) -> tuple[str, str]:
        hashed = int(record["endpoint_hash"])
        if hashed and hashed in self._labels:
            return self._labels[hashed]
        method = text(record["method"].item())
        endpoint = target.split(text(record["target"].item()), method)
        name = printable(redact.userinfo(endpoint.path) or redact.authority(endpoint.authority))
        if name not in self._endpoints and len(self._endpoints) >= ENDPOINTS_MAX:
            name = OVERFLOW
        self._endpoints.add(name)
        label = name, method if method in KNOWN_METHODS else "_OTHER"
        if hashed and len(self._labels) < 4 * ENDPOINTS_MAX:
            self._labels[hashed] = label
        return label
