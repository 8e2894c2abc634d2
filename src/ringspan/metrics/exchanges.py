"""Metrics of exchanges and failed connects: every record, sampled or not; a group of like ones costs as much as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
)

from ringspan import spans
from ringspan.metrics import buckets, columns
from ringspan.metrics.series import Histograms, Slots
from ringspan.model import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringspan.model import Identity, Route, Routes, Span

Array = np.ndarray[Any, np.dtype[Any]]
SERVER, CLIENT, CONNECT = "server", "client", "connect"
METHOD = http_attributes.HTTP_REQUEST_METHOD
ANSWER = [
    http_attributes.HTTP_RESPONSE_STATUS_CODE,
    error_attributes.ERROR_TYPE,
    network_attributes.NETWORK_PROTOCOL_VERSION,
]
CALLED = [server_attributes.SERVER_ADDRESS, server_attributes.SERVER_PORT]
ATTRIBUTES = {
    SERVER: [METHOD, http_attributes.HTTP_ROUTE, spans.ROUTE_SOURCE, url_attributes.URL_SCHEME, *ANSWER],
    CLIENT: [METHOD, *CALLED, *ANSWER],
    CONNECT: [error_attributes.ERROR_TYPE, *CALLED, network_attributes.NETWORK_TRANSPORT],
}
OVERFLOW_SLOTS = {SERVER: 0, CLIENT: 1, CONNECT: 2}
GROUPS_MAX = 1 << 16
EXEMPLARS_MAX = 16  # of a series, in a report
DURATION, REQUEST_BYTES, RESPONSE_BYTES = "duration", "request_body", "response_body"


class Key(NamedTuple):
    """What tells a series from all others."""

    kind: str
    identity: Identity
    attributes: tuple[tuple[str, Any], ...]


class Exemplar(NamedTuple):
    """A span that was kept, as an example of its bucket."""

    value: float
    unix_ns: int
    trace_id: int
    span_id: int


@dataclass(frozen=True)
class Limits:
    """How much is kept: series at once (of all services), and how long one without traffic stays."""

    series: int = 4096
    idle_s: float = 900.0
    exponential: bool = False
    body_sizes: bool = False


@dataclass(frozen=True)
class Snapshot:
    """All series at one moment; `since_unix_ns` and `generations` tell who held a slot, from when on."""

    keys: dict[Key, int]
    rows: dict[int, int]  # where in the arrays a slot is: only those in use are copied
    histograms: dict[str, Histograms]
    since_unix_ns: Array
    generations: Array
    unix_ns: int
    exemplars: dict[int, dict[int, Exemplar]] = field(default_factory=dict)

    @property
    def overflowed(self) -> int:
        """How many records found no series of their own."""
        return int(self.histograms[DURATION].totals[[self.rows[slot] for slot in OVERFLOW_SLOTS.values()]].sum())


class ExchangeMetrics:
    """Aggregates records; `counted` says how many."""

    def __init__(self, limits: Limits, identify: Callable[[Any], Identity], now: float, unix_ns: int) -> None:
        self._limits = limits
        self._identify = identify
        self._grouping = columns.Grouping()
        capacity = limits.series + len(OVERFLOW_SLOTS)
        self._slots: Slots[Key] = Slots(capacity, len(OVERFLOW_SLOTS), now)
        self._since = np.full(capacity, unix_ns, np.int64)
        self._generations = np.zeros(capacity, np.int64)
        self._known: dict[int, int] = {}
        self._exemplars: dict[int, dict[int, Exemplar]] = {}
        sizes = buckets.of_bytes(limits.exponential)
        measures = {DURATION: buckets.of_seconds(limits.exponential)}
        if limits.body_sizes:
            measures |= {REQUEST_BYTES: sizes, RESPONSE_BYTES: sizes}
        self._histograms = {name: Histograms(kind, capacity) for name, kind in measures.items()}
        self.counted = 0

    def regroup(self, *, by_port: bool) -> None:
        """Name services anew, and by port too if rules do."""
        self._grouping.by_port = by_port
        self._known.clear()

    def add(self, batch: Array, now: float, unix_ns: int, routes: Routes | None = None) -> Array:
        """Count a batch of records (monotonic seconds, Unix nanoseconds); returns each one's slot."""
        fixed = columns.fixed(batch)
        groups = self._grouping.groups(batch, fixed, routes.numbers if routes else None)
        found = []
        for each, at in zip(groups.hashes, groups.first, strict=True):
            slot = self._known.get(each)
            if slot is None:
                route = routes.of(int(routes.numbers[at])) if routes else None
                slot = self._new_slot(each, rows(batch[at : at + 1])[0], route, unix_ns)
            found.append(slot)
        of_group = np.array(found)
        slots: Array = of_group[groups.of_record]
        self._slots.last_seen[of_group] = now
        self._histograms[DURATION].add(slots, columns.seconds(fixed))
        if self._limits.body_sizes:
            for name in (REQUEST_BYTES, RESPONSE_BYTES):
                self._histograms[name].add(slots, fixed[f"{name}_bytes"].astype(np.float64))
        self.counted += len(batch)
        return slots

    def slowness(self, batch: Array, slots: Array) -> Array:
        """Return the duration of each record over the mean of its series."""
        ratio: Array = columns.seconds(batch) / np.maximum(self._histograms[DURATION].means(slots), 1e-9)
        return ratio

    def exemplify(self, kept: list[Span], slots: Array) -> None:
        """Note spans that were kept: the latest of each bucket is its exemplar."""
        values = np.array([span.duration_ns for span in kept]) / 1e9
        index = self._histograms[DURATION].buckets.index(values)
        for span, slot, bucket, value in zip(kept, slots.tolist(), index.tolist(), values.tolist(), strict=True):
            end = span.start_unix_ns + span.duration_ns
            latest = self._exemplars.setdefault(slot, {})
            latest.pop(bucket, None)
            latest[bucket] = Exemplar(value, end, span.trace_id, span.span_id)
            if len(latest) > EXEMPLARS_MAX:
                del latest[next(iter(latest))]

    @property
    def overflowed(self) -> int:
        """How many records found no series of their own."""
        return int(self._histograms[DURATION].totals[list(OVERFLOW_SLOTS.values())].sum())

    def tidy(self, now: float, unreported_s: float) -> None:
        """Forget who is who (exec changes it), and series without traffic that have been reported as they are."""
        self._known.clear()
        gone = self._slots.expire(min(now - self._limits.idle_s, unreported_s))
        if gone:
            for histograms in self._histograms.values():
                histograms.clear(gone)
            for slot in gone:
                self._exemplars.pop(slot, None)

    def snapshot(self, unix_ns: int) -> Snapshot:
        """Return all series as they are; exemplars are given once."""
        exemplars, self._exemplars = self._exemplars, {}
        keys = dict(self._slots.keys)
        used = [*OVERFLOW_SLOTS.values(), *keys.values()]
        return Snapshot(
            keys=keys,
            rows={slot: row for row, slot in enumerate(used)},
            histograms={name: one.part(used) for name, one in self._histograms.items()},
            since_unix_ns=self._since[used],
            generations=self._generations[used],
            unix_ns=unix_ns,
            exemplars=exemplars,
        )

    def _new_slot(self, group: int, row: Any, route: Route | None, unix_ns: int) -> int:
        slot = self._slot_of_key(self._key(row, route), unix_ns)
        if len(self._known) < GROUPS_MAX:
            self._known[group] = slot
        return slot

    def _slot_of_key(self, key: Key, unix_ns: int) -> int:
        known = self._slots.keys.get(key)
        if known is not None:
            return known
        slot = self._slots.take(key)
        if slot is None:
            return OVERFLOW_SLOTS[key.kind]
        self._since[slot] = unix_ns
        self._generations[slot] += 1
        return slot

    def _key(self, row: Any, route: Route | None) -> Key:
        facts = spans.describe(row, route)
        kind = CONNECT if row.kind == columns.CONNECT_FAILURE else facts.kind
        found = facts.attributes
        attributes = tuple((name, found[name]) for name in ATTRIBUTES[kind] if name in found)
        return Key(kind, self._identify(row), attributes)
