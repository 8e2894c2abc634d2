"""Spans as the SDK's own encoder sends them: what ours must be equal to."""

from __future__ import annotations

from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from ringspan import __version__, resource
from ringspan.model import Span

KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}


def _context(trace_id: int, span_id: int, state: str, *, remote: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace_id, span_id, remote, flags, TraceState.from_header([state]) if state else None)


def readable(span: Span) -> ReadableSpan:
    """The SDK's span data of a span."""
    parent, facts = span.parent_span_id, span.facts
    attributes: dict[str, Any] = span.attributes
    attributes["http.request.body.size"] = span.request_body_bytes
    attributes["http.response.body.size"] = span.response_body_bytes
    if facts.truncated:
        attributes["ringspan.truncated"] = facts.truncated
    return ReadableSpan(
        name=facts.name,
        context=_context(span.trace_id, span.span_id, span.trace_state, remote=False),
        parent=_context(span.trace_id, parent, "", remote=span.parent_is_remote) if parent else None,
        resource=Resource(dict(resource.attributes(span.identity))),
        attributes=attributes,
        kind=KINDS[facts.kind],
        instrumentation_scope=InstrumentationScope("ringspan", __version__),
        status=Status(StatusCode.ERROR if facts.is_error else StatusCode.UNSET),
        start_time=span.start_unix_ns,
        end_time=span.start_unix_ns + span.duration_ns,
    )


def encoded(spans: list[Span]) -> ExportTraceServiceRequest:
    return encode_spans([readable(span) for span in spans])


def sorted_attributes(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """The same with all attributes in order: they are a set."""
    for group in request.resource_spans:
        group.resource.attributes.sort(key=lambda one: one.key)
        for scope in group.scope_spans:
            for span in scope.spans:
                span.attributes.sort(key=lambda one: one.key)
    return request
