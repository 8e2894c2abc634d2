"""Delivery: one bounded queue in front of an OTLP exporter of the SDK; every span's fate is counted."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from ringspan import __version__
from ringspan.errors import UsageError
from ringspan.ledger import SpanCounts

if TYPE_CHECKING:
    from ringspan.model import Identity, Span

QUEUE_MAX = 65536
BATCH_MAX = 512
LINGER_S = 0.2
SCOPE = InstrumentationScope("ringspan", __version__)
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
log = logging.getLogger(__name__)


def resource_attributes(identity: Identity) -> dict[str, Any]:
    """Return the resource of a service on this host."""
    out: dict[str, Any] = {"service.name": identity.service_name, "host.name": os.uname().nodename, "os.type": "linux"}
    if identity.executable:
        out["process.executable.path"] = identity.executable
    return out | {"telemetry.distro.name": "ringspan", "telemetry.distro.version": __version__}


@cache
def _resource(identity: Identity) -> Resource:
    return Resource(resource_attributes(identity))


def _context(trace_id: int, span_id: int, state: str, *, remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, remote, SAMPLED, TraceState.from_header([state]) if state else None)


def readable(span: Span) -> ReadableSpan:
    """Make the SDK's span data of a span."""
    parent = span.parent_span_id
    attributes = dict(span.attributes)
    attributes["http.request.body.size"] = span.request_body_bytes
    attributes["http.response.body.size"] = span.response_body_bytes
    if span.truncated:
        attributes["ringspan.truncated"] = span.truncated
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id, span.trace_state, remote=False),
        parent=_context(span.trace_id, parent, "", remote=True) if parent else None,
        resource=_resource(span.identity),
        attributes=attributes,
        kind=KINDS[span.kind],
        instrumentation_scope=SCOPE,
        status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
        start_time=span.start_unix_ns,
        end_time=span.start_unix_ns + span.duration_ns,
    )


ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def wants_export(otlp: str | None) -> bool:
    """Is there anywhere to send to, by flag or by the SDK's variables?"""
    return bool(otlp) or any(os.environ.get(name) for name in ENDPOINT_VARIABLES)


def make_exporter(otlp: str | None, protocol: str | None) -> SpanExporter:
    """Make the SDK's exporter for a URL (None: the SDK's variables); raises UsageError if it cannot be made."""
    variable = next((name for name in PROTOCOL_VARIABLES if os.environ.get(name)), "")
    chosen = protocol or os.environ.get(variable, "grpc")
    if chosen not in ("grpc", "http/protobuf"):
        raise UsageError(f"{variable}: {chosen!r} is not one of grpc, http/protobuf")
    try:
        return _exporter(otlp, chosen)
    except Exception as error:
        raise UsageError(f"no OTLP exporter for {otlp or 'the OTEL_EXPORTER_OTLP_ variables'}: {error}") from error


def _exporter(otlp: str | None, protocol: str) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415

        return Grpc(endpoint=otlp)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415

    if otlp and "/" not in otlp.partition("://")[2].rstrip("/"):
        otlp = f"{otlp.rstrip('/')}/v1/traces"  # as the SDK does with OTEL_EXPORTER_OTLP_ENDPOINT
    return Http(endpoint=otlp)


class Delivery:
    """Sends spans from a thread of its own; the caller never waits."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._queue: deque[Span] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._sending = 0
        self._stopping = False
        self._closed = False
        self._counts = SpanCounts()
        self._thread = threading.Thread(target=self._run, name="ringspan-deliver", daemon=True)
        self._thread.start()

    def put(self, spans: list[Span]) -> None:
        """Queue spans; what the queue cannot hold is counted as failed."""
        with self._lock:
            room = QUEUE_MAX - len(self._queue)
            self._queue.extend(spans[:room])
            if len(spans) > room:
                self._counts.fail("queue full", len(spans) - room)
        if len(self._queue) >= BATCH_MAX:
            self._wake.set()

    def counts(self) -> SpanCounts:
        """Return the fate of all spans so far."""
        with self._lock:
            counts = self._counts
            return SpanCounts(0, len(self._queue), self._sending, counts.acknowledged, dict(counts.failed))

    def close(self, deadline_s: float) -> None:
        """Send what is queued for at most deadline_s, then give up; what is left counts as failed."""
        self._stopping = True
        self._wake.set()
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            threading.Thread(
                target=self._exporter.shutdown, daemon=True
            ).start()  # its retry loop ends; may take seconds
        with self._lock:
            left = len(self._queue) + self._sending
            if left:
                self._counts.fail("not sent by the end", left)
            self._queue.clear()
            self._sending = 0
            self._closed = True

    def _run(self) -> None:
        while True:
            self._wake.wait(LINGER_S)
            self._wake.clear()
            while batch := self._take():
                self._send(batch)
            if self._stopping and not self._queue:
                return

    def _take(self) -> list[Span]:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            self._sending = len(batch)
        return batch

    def _send(self, batch: list[Span]) -> None:
        try:
            result = self._exporter.export([readable(span) for span in batch])
            reason = "refused or unreachable"
        except Exception as error:
            log.warning("export failed: %s", error)
            result, reason = SpanExportResult.FAILURE, type(error).__name__
        with self._lock:
            if self._closed:
                return
            self._sending = 0
            if result is SpanExportResult.SUCCESS:
                self._counts.acknowledged += len(batch)
            else:
                self._counts.fail(reason, len(batch))


def silence_sdk() -> None:
    """Keep the SDK's own log lines back: the ledger says it once, and what a peer sent must not reach a terminal."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
