"""Spans as JSON, one object a line, made for jq."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ringspan import resource

if TYPE_CHECKING:
    from ringspan.model import Identity, Span


@lru_cache(maxsize=4096)
def _resource(identity: Identity) -> dict[str, str]:
    return resource.attributes(identity)


def row(span: Span) -> dict[str, Any]:
    """Return a span as the documented object."""
    return {
        "name": span.facts.name,
        "kind": span.facts.kind,
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "parent_span_id": f"{span.parent_span_id:016x}" if span.parent_span_id else None,
        "start_unix_ns": span.start_unix_ns,
        "duration_ns": span.duration_ns,
        "first_byte_ns": span.first_byte_ns,
        "status": "error" if span.facts.is_error else "unset",
        "request_body_bytes": span.request_body_bytes,
        "response_body_bytes": span.response_body_bytes,
        "truncated": span.facts.truncated,
        "attributes": span.attributes,
        "resource": _resource(span.identity),
    }


def text(spans: list[Span]) -> str:
    """Return spans as lines of JSON."""
    return "".join(json.dumps(row(span), separators=(",", ":")) + "\n" for span in spans)
