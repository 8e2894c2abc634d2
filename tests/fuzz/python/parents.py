"""traceparent and tracestate, beside the SDK's own propagator."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ringspan import trace_context

from .source import Source

WIRE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REFERENCE = TraceContextTextMapPropagator()


def mutated(source: Source) -> bytes:
    """A valid traceparent with pieces put over it, or anything."""
    if source.byte() & 1:
        return source.piece()
    out = bytearray(WIRE)
    for _ in range(source.byte() % 4):
        at, piece = source.byte() % (len(WIRE) + 1), source.take(source.byte() % 8)
        out[at : at + (len(piece) if source.byte() & 1 else 0)] = piece
    return bytes(out)


def check_parents(data: bytes) -> int:
    """Valid here where it is there, and the same ids, flag and state."""
    source = Source(data)
    header = mutated(source).strip(b" \t\r\0").decode(errors="backslashreplace")
    state = source.rest().strip(b" \t\r\0").decode(errors="backslashreplace")
    ours = trace_context.parse(header)
    context = REFERENCE.extract({"traceparent": header, "tracestate": state}, Context())
    theirs = trace.get_current_span(context).get_span_context()
    if ours is None:
        assert not theirs.is_valid, header
        return 1
    assert ours == (theirs.trace_id, theirs.span_id, bool(theirs.trace_flags & 1)), header
    assert trace_context.state.__wrapped__(state) == theirs.trace_state.to_header(), state
    shortened = trace_context.state.__wrapped__(state, cut=True)
    assert set(filter(None, shortened.split(","))) <= {part.strip(" \t") for part in state.split(",")}
    return 1
