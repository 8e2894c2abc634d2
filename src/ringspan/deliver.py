"""Delivery: one bounded queue of encoded spans, sent on from a thread of its own; every span's fate is counted."""

from __future__ import annotations

import struct
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringspan.ledger import SpanCounts
from ringspan.otlp import attempts, encode

if TYPE_CHECKING:
    from ringspan.model import Identity, Span
    from ringspan.otlp.send import Answer, Sender

RESOURCES_MAX = 4096
BATCH_BYTES = 2 << 20  # receivers of gRPC take 4 MB in a message


@dataclass(frozen=True)
class Limits:
    """What the queue may hold and how it is emptied; the names are those of OTEL_BSP_*."""

    queue_spans: int = 65536
    queue_bytes: int = 32 << 20
    batch_spans: int = 512
    linger_s: float = 0.2
    timeout_s: float = 10.0
    retry_s: float = 300.0  # from a batch's first try to its last


class Delivery:
    """Sends spans; the caller never waits, whatever the receiver does."""

    def __init__(self, sender: Sender, limits: Limits) -> None:
        self._sender = sender
        self._limits = limits
        self._queue: deque[tuple[bytes, bytes]] = deque()  # resource, span
        self._bytes = 0
        self._resources: dict[Identity, bytes] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._sending = 0
        self._closed = False
        self._counts = SpanCounts()
        self.forgotten = 0
        self._thread = threading.Thread(target=self._run, name="ringspan-deliver", daemon=True)
        self._thread.start()

    def put(self, spans: list[Span]) -> None:
        """Queue spans; what the queue cannot hold is counted as failed."""
        encoded = list(filter(None, map(self._encoded, spans)))
        dropped = 0
        with self._lock:
            for one in encoded:
                size = len(one[1])
                full = len(self._queue) >= self._limits.queue_spans
                if full or self._bytes + size > self._limits.queue_bytes:
                    dropped += 1
                    continue
                self._queue.append(one)
                self._bytes += size
            if dropped:
                self._counts.fail("queue full", dropped)
            if len(encoded) < len(spans):
                self._counts.fail("cannot be encoded", len(spans) - len(encoded))
        if len(self._queue) >= self._limits.batch_spans:
            self._wake.set()

    def counts(self) -> SpanCounts:
        """Return the fate of all spans so far."""
        with self._lock:
            counts = self._counts
            return SpanCounts({}, len(self._queue), self._sending, counts.acknowledged, dict(counts.failed))

    def close(self, deadline_s: float) -> None:
        """Send what is queued for at most deadline_s, then give up; what is left counts as failed."""
        self._ending.set()
        self._wake.set()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            self._sender.cancel()
        with self._lock:
            left = len(self._queue) + self._sending
            if left:
                self._counts.fail(attempts.LEFT, left)
            self._queue.clear()
            self._sending = 0
            self._closed = True

    def _encoded(self, span: Span) -> tuple[bytes, bytes] | None:
        """Encode one span; what cannot be must not end the run."""
        try:
            return self._resource(span.identity), encode.encode(span)
        except (ValueError, TypeError, OverflowError, struct.error):
            return None

    def _resource(self, identity: Identity) -> bytes:
        known = self._resources.get(identity)
        if known is None:
            if len(self._resources) >= RESOURCES_MAX:
                del self._resources[next(iter(self._resources))]
                self.forgotten += 1
            known = self._resources[identity] = encode.encode_resource(identity)
        return known

    def _run(self) -> None:
        while True:
            self._wake.wait(self._limits.linger_s)
            self._wake.clear()
            while batch := self._take():
                self._deliver(batch)
            if self._ending.is_set() and not self._queue:
                return

    def _take(self) -> list[tuple[bytes, bytes]]:
        with self._lock:
            batch: list[tuple[bytes, bytes]] = []
            size = 0
            while self._queue and len(batch) < self._limits.batch_spans and size < BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += len(batch[-1][1])
            self._bytes -= size
            self._sending = len(batch)
        return batch

    def _deliver(self, batch: list[tuple[bytes, bytes]]) -> None:
        """Send one batch, again and again until it is taken, refused for good, or too old."""
        body = encode.request(batch)
        limits = self._limits
        answer = attempts.settle(lambda: self._sender.send(body, limits.timeout_s), limits.retry_s, self._ending)
        self._settle(len(batch), answer)

    def _settle(self, count: int, answer: Answer) -> None:
        with self._lock:
            if self._closed:
                return
            self._sending = 0
            rejected = min(answer.rejected, count) if answer.taken else 0
            if not answer.taken:
                self._counts.fail(answer.reason, count)
            elif rejected:
                self._counts.fail(attempts.REJECTED, rejected)
            self._counts.acknowledged += count - rejected if answer.taken else 0
