"""Requests by endpoint, status and process, for the live output: whole batches, grouped by column."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ringspan import contract, failures, fingerprints, redact, target
from ringspan.metrics.buckets import Exponential
from ringspan.metrics.columns import seconds, words
from ringspan.metrics.series import Histograms, Slots
from ringspan.printable import printable
from ringspan.spans import KNOWN_METHODS, TARGET_CUT, text

Batch = np.ndarray[Any, np.dtype[Any]]
CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
CLIENT, SERVER = contract.number("ROLE_CLIENT"), contract.number("ROLE_SERVER")
ENDPOINTS_MAX = 10_000
TALLIES_MAX = 4 * ENDPOINTS_MAX
OVERFLOW = "(other)"
CUT = "(cut)"  # nothing that is known to be no secret was kept of its target
OVERFLOW_SLOT = 0
DURATIONS = Exponential(-20, 16, scale=2)  # from 1 us to 18 hours; a quantile is right within 19 %
WAITING_MAX = 1 << 16
METHOD_WORDS, COMM_WORDS = -(-contract.number("METHOD_MAX") // 8), 2


def endpoint_name(asked: str, method: str, *, cut: bool) -> str:
    """Return what stands for a request's target in the live output."""
    parts = target.split(asked, method, cut=cut)
    path = redact.path(parts.path, cut=cut and not parts.query)
    return printable(path or redact.authority(parts.authority) or CUT)


class Key(NamedTuple):
    """What is counted apart."""

    endpoint: str
    method: str
    status: int
    process: str
    tls: bool = False


@dataclass(frozen=True)
class Line:
    """One key's numbers, as the live output shows them; quantiles of the duration in seconds."""

    key: Key
    count: int
    errors: int
    p50: float
    p95: float
    p99: float


class Ends:
    """Tells the second end of an exchange that both a client and a server of this host have reported.

    Remembered are the latest first ends that have not met their second; for how long depends on the traffic alone.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}
        self.forgotten = 0  # whose second end, if it comes, counts once more

    def first_reports(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which records are the first to report their exchange; of both ends in one batch, the server's."""
        first = np.ones(len(batch), bool)
        keys, roles = _join_keys(batch).tolist(), batch["role"].tolist()
        joinable = (batch["kind"] != CONNECT_FAILURE) & (batch["tcp_seq"] != 0)
        servers = batch["role"] == SERVER
        for i in [*np.flatnonzero(joinable & servers).tolist(), *np.flatnonzero(joinable & ~servers).tolist()]:
            if self._waiting.get(keys[i], roles[i]) != roles[i]:
                del self._waiting[keys[i]]
                first[i] = False
            else:
                self._waiting[keys[i]] = roles[i]
        for key in list(self._waiting)[: max(0, len(self._waiting) - WAITING_MAX)]:
            del self._waiting[key]
            self.forgotten += 1
        return first


def _join_keys(batch: Batch) -> Batch:
    local, remote = batch["local_port"].astype(np.uint64), batch["remote_port"].astype(np.uint64)
    is_client = batch["role"] == CLIENT
    ports = np.where(is_client, local << np.uint64(16) | remote, remote << np.uint64(16) | local)
    return ports << np.uint64(32) | batch["tcp_seq"].astype(np.uint64)


class Counts:
    """Cumulative tallies; an exchange seen from both its ends counts once."""

    def __init__(self) -> None:
        self.records = 0
        self.counted = 0  # of these, without the second ends
        self.failed_connects: Counter[str] = Counter()
        self._slots: Slots[Key] = Slots(TALLIES_MAX + 1, 1, 0.0)
        self._durations = Histograms(DURATIONS, TALLIES_MAX + 1)
        self._errors = np.zeros(TALLIES_MAX + 1, np.int64)
        self._ends = Ends()
        self._mixer = fingerprints.Mixer()
        self._labels: dict[int, tuple[str, str]] = {}
        self._endpoints: set[str] = set()

    def add(self, batch: Batch) -> None:
        """Count a batch of records."""
        self.records += len(batch)
        batch = batch[self._ends.first_reports(batch)]
        self.counted += len(batch)
        if not len(batch):
            return
        endpoints = self._endpoints_of(batch)
        numbers = (batch[name].astype(np.uint64) for name in ("status", "failure", "error_number", "kind", "tls"))
        columns = [endpoints, self._processes_of(batch), *numbers]
        order = np.lexsort(columns)
        changed = np.zeros(len(batch), bool)
        changed[0] = True
        for column in columns:
            changed[1:] |= np.diff(column[order]) != 0
        group = np.cumsum(changed) - 1
        firsts = order[np.flatnonzero(changed)]
        slots = np.array([self._slot(batch[first], int(endpoints[first])) for first in firsts])[group]
        self._durations.add(slots, seconds(batch)[order])
        wrong = (batch["failure"] != 0) | (batch["status"] >= 400)
        np.add.at(self._errors, slots, wrong[order].astype(np.int64))
        for first, count in zip(firsts, np.bincount(group), strict=True):
            if batch["kind"][first] == CONNECT_FAILURE:
                self.failed_connects[self._key(batch[first], 0).endpoint] += int(count)

    def forget(self) -> None:
        """Name endpoints anew: what is redacted has changed."""
        self._labels.clear()

    @property
    def forgotten(self) -> int:
        """How many exchanges are no longer awaited from their other end."""
        return self._ends.forgotten

    def totals(self) -> list[tuple[Key, int]]:
        """Return each key's count."""
        out = [(key, int(self._durations.totals[slot])) for key, slot in self._slots.keys.items()]
        over = int(self._durations.totals[OVERFLOW_SLOT])
        return [*out, (Key(OVERFLOW, "", 0, ""), over)] if over else out

    def top(self, lines: int, order: str) -> list[Line]:
        """Return the first lines by `count`, `errors`, `latency` (p99) or `name`; equal ones by name."""
        keys = [*self._slots.keys, Key(OVERFLOW, "", 0, "")]
        slots = np.array([*self._slots.keys.values(), OVERFLOW_SLOT])
        used = np.flatnonzero(self._durations.totals[slots])
        keys, slots = [keys[i] for i in used], slots[used]
        if not keys:
            return []
        rank = self._rank(slots, order)
        chosen = sorted(range(len(keys)), key=lambda i: (-rank[i], keys[i]))[:lines]
        return self._lines([keys[i] for i in chosen], slots[chosen])

    def _rank(self, slots: Batch, order: str) -> Batch:
        if order == "errors":
            return self._errors[slots]
        if order == "latency":
            return self._durations.quantiles(slots, 0.99)
        return np.zeros(len(slots)) if order == "name" else self._durations.totals[slots]

    def __len__(self) -> int:
        """Return how many lines there are."""
        return len(self._slots.keys)

    def _lines(self, keys: list[Key], slots: Batch) -> list[Line]:
        numbers = [self._durations.totals[slots], self._errors[slots]]
        quantiles = [self._durations.quantiles(slots, share) for share in (0.5, 0.95, 0.99)]
        columns = [column.tolist() for column in (*numbers, *quantiles)]
        return [Line(key, *values) for key, *values in zip(keys, *columns, strict=True)]

    def _endpoints_of(self, batch: Batch) -> Batch:
        """Return what tells one endpoint from another."""
        cut = (batch["truncated"] & TARGET_CUT).astype(np.uint64)
        return self._mixer.mix(len(batch), [cut, *words(batch, "method", METHOD_WORDS).T, *fingerprints.paths(batch)])

    def _processes_of(self, batch: Batch) -> Batch:
        return self._mixer.mix(len(batch), [batch["tgid"].astype(np.uint64), *words(batch, "comm", COMM_WORDS).T])

    def _slot(self, record: Any, hashed: int) -> int:
        key = self._key(record, hashed)
        known = self._slots.keys.get(key)
        if known is None:
            known = self._slots.take(key)
        return OVERFLOW_SLOT if known is None else known

    def _key(self, record: Any, hashed: int) -> Key:
        process = printable(record["comm"].decode(errors="backslashreplace"))
        if record["kind"] == CONNECT_FAILURE:
            return Key(failures.connect_word(int(record["failure"]), int(record["error_number"])), "", 0, process)
        endpoint, method = self._label(record, hashed)
        return Key(endpoint, method, int(record["status"]), process, bool(record["tls"]))

    def _label(self, record: Any, hashed: int) -> tuple[str, str]:
        if hashed in self._labels:
            return self._labels[hashed]
        method = text(record["method"].item())
        name = endpoint_name(text(record["target"].item()), method, cut=bool(record["truncated"] & TARGET_CUT))
        if name not in self._endpoints and len(self._endpoints) >= ENDPOINTS_MAX:
            name = OVERFLOW
        self._endpoints.add(name)
        label = name, method if method in KNOWN_METHODS else "_OTHER"
        if len(self._labels) < 4 * ENDPOINTS_MAX:
            self._labels[hashed] = label
        return label
