"""Encoded spans are what the SDK's own encoder makes of them, byte for byte once attributes are in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ringspan import contract
from ringspan.clock import Clock
from ringspan.model import Identity, Span
from ringspan.otlp import encode
from ringspan.spans import SpanMaker

from .reference import encoded, sorted_attributes
from .rows import CLIENT, row

WIRE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONNECT = {"kind": contract.number("RECORD_CONNECT_FAILURE"), "failure": 1, "error_number": 111, "status": 0}
CASES: dict[str, dict[str, Any]] = {
    "server": {},
    "client": CLIENT,
    "failed connect": {**CLIENT, **CONNECT},
    "500": {"status": 500},
    "parent": {"traceparent": WIRE, "tracestate": b"a=1,b=2"},
    "client of it": {"parent_span_id": 9, "joined": contract.number("JOIN_PEER")},
    "server that asks": CLIENT | {"parent_span_id": 9, "joined": contract.number("JOIN_SERVED")},
    "unix": {"family": 1, "unix_path": b"/run/app.sock"},
    "cut": {"truncated": 9, "target": b"/" + b"x" * 639},
    "large numbers": {"request_body_bytes": 1 << 40, "response_body_bytes": (1 << 63) - 1, "tgid": 4194304},
    "odd bytes": {"target": b"/\xff\xfe\x1b[31m", "user_agent": b"\xc3\xa4", "user_agent_bytes": 2, "method": b"BREW"},
}
NUMBERS = st.integers(0, (1 << 63) - 1)


def spans(*changes: dict[str, Any], identity: str = "svc") -> list[Span]:
    maker = SpanMaker(Clock(), lambda _row: Identity(identity, "/bin/app"))
    return [maker.span(row(**change)) for change in changes]


def decoded(made: list[Span]) -> ExportTraceServiceRequest:
    body = encode.request((encode.encode_resource(span.identity), encode.encode(span)) for span in made)
    return ExportTraceServiceRequest.FromString(body)


@pytest.mark.parametrize("name", CASES)
def test_as_the_sdk_encodes_it(name: str) -> None:
    made = spans(CASES[name])
    assert sorted_attributes(decoded(made)) == sorted_attributes(encoded(made))


def test_many_spans_of_several_services_keep_their_resources() -> None:
    made = spans(*CASES.values()) + spans(*CASES.values(), identity="other")
    assert sorted_attributes(decoded(made)) == sorted_attributes(encoded(made))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(min_size=1, max_size=640), st.binary(max_size=192), st.integers(0, 999), NUMBERS, NUMBERS,
    st.integers(1, (1 << 64) - 1), st.integers(1, (1 << 22)),
)  # fmt: skip
def test_any_texts_and_numbers(
    target: bytes, agent: bytes, status: int, sent: int, got: int, span_id: int, pid: int
) -> None:
    change = {
        "target": target, "user_agent": agent, "user_agent_bytes": len(agent), "status": status,
        "request_body_bytes": sent, "response_body_bytes": got, "span_id": span_id, "tgid": pid,
    }  # fmt: skip
    made = spans(change, {**change, **CLIENT})
    assert sorted_attributes(decoded(made)) == sorted_attributes(encoded(made))


def test_what_like_spans_share_is_encoded_once() -> None:
    first, second = spans({"remote_port": 1, "span_id": 7}, {"remote_port": 2, "span_id": 8})
    assert first.facts is second.facts
    assert first.attributes["network.peer.port"] == 1
    assert second.attributes["network.peer.port"] == 2
