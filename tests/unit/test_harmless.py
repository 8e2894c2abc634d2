"""Whatever a peer or a process puts into a text: valid where it is data, escaped where it is shown, never acted upon."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from fuzz.python.records import REFUSED, UNIX, check_batch
from ringspan import cli, contract
from ringspan.clock import Clock
from ringspan.counts import Counts
from ringspan.deliver import Delivery, Limits
from ringspan.ledger import span_account
from ringspan.model import Identity, rows
from ringspan.naming import Process, identity_of
from ringspan.otlp import encode, endpoint, send
from ringspan.spans import SpanMaker
from ringspan.view import json_rows, lines

from .receiver import Reply, receiver
from .rows import CLIENT, batch, row

HOSTILE = {
    "escape": b"\x1b[2J\x1b]0;owned\x07",
    "c1": b"\xc2\x9b2J",
    "raw c1": b"\x9b2J\x9d0;owned\x9c",
    "not utf-8": b"\xff\xfe\xc0\xaf\xed\xa0\x80",
    "nul": b"a\0b",
    "line ends": b"a\r\nledger spans: recorded 0",
    "separators": "a\u2028b\u2029c\u0085d".encode(),
    "bidi": "\u202e\u2066gnp.exe\u2069\u200b\ufeff".encode(),
    "markup": b"[red]x[/red][link=http://evil.example]y[/link]:smile:",
    "formats": b"%s%n{0}{}%(x)s$(id)`id`",
}
TEXTS = ("target", "host", "user_agent", "method", "traceparent", "tracestate", "comm", "unix_path")
WIRE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def planted(name: str, value: bytes) -> list[dict[str, Any]]:
    """Records of each kind that have a text somewhere: as it is, and so often that it fills the field."""
    size = contract.RECORD[name].itemsize
    full = (value * (size // len(value) + 1))[:size]
    out = []
    for text in (b"/" + value, full) if name == "target" else (value[:size], full):
        texts = {"traceparent": WIRE, "traceparent_bytes": len(WIRE)} if name == "tracestate" else {}
        texts[name] = text
        if name not in ("comm", "unix_path"):
            texts[f"{name}_bytes"] = len(text)
        out += [kind | texts for kind in ({}, CLIENT, UNIX, CLIENT | UNIX, CLIENT | REFUSED, CLIENT | UNIX | REFUSED)]
    return out


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_text_of_a_record_is_harmless_by_every_way_out(name: str, kind: str) -> None:
    """The live table and lines, JSON, OTLP spans and metrics: see check_batch for what is asked of each."""
    check_batch(batch(*planted(name, HOSTILE[kind])))


def test_what_becomes_of_bytes_that_are_not_utf_8() -> None:
    raw = row(target=b"/\xff?\xfe", user_agent=b"\xf0", user_agent_bytes=1, host=b"\xc0", host_bytes=1)
    span = SpanMaker(Clock(), lambda _row: Identity("svc")).span(raw)
    sent = ExportTraceServiceRequest.FromString(
        encode.request([(encode.encode_resource(span.identity), encode.encode(span))])
    )
    found = {one.key: one.value.string_value for one in sent.resource_spans[0].scope_spans[0].spans[0].attributes}
    names = ("url.path", "url.query", "user_agent.original", "server.address")
    assert [found[name] for name in names] == ["/\\xff", "\\xfe", "\\xf0", "\\xc0"]


def test_a_line_cannot_be_forged() -> None:
    counts = Counts()
    counts.add(
        batch({"target": b"/\nEndpoint: /x, Status Code: 200, Count: 99"}, {"target": "/\u2028\u0085x".encode()})
    )
    assert lines.text(counts).splitlines() == [
        "Endpoint: /\\nEndpoint: /x, Status Code: 200, Count: 99, Status Code: 200, Count: 1",
        "Endpoint: /\\u2028\\x85x, Status Code: 200, Count: 1",
    ]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_process_with_a_hostile_name_is_harmless(kind: str) -> None:
    text = HOSTILE[kind].replace(b"\0", b"")
    path = os.fsdecode(text.replace(b"/", b""))
    for process in (
        Process(b"python3\0" + text + b".py\0", b"", "", "exe"),
        Process(b"", b"OTEL_SERVICE_NAME=" + text, "", "exe"),
        Process(b"", b"OTEL_RESOURCE_ATTRIBUTES=service.name=%1b%5b2J%ff" + text, "", "exe"),
        Process(b"", b"", f"0::/{path}.service\n", "exe"),
        Process(b"", b"", "", f"/usr/bin/{path}"),
        Process(b"", b"A=" + text * 9999, "", f"/{path * 9999}"),
    ):
        identity = identity_of(process)
        assert 0 < len(identity.service_name) <= 255
        sent = Resource.FromString(_body(encode.encode_resource(identity)))
        assert identity.service_name in [one.value.string_value for one in sent.attributes]
        span = SpanMaker(Clock(), lambda _row, identity=identity: identity).span(row())
        (line,) = json_rows.text([span]).splitlines()
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["resource"]["service.name"] == identity.service_name


def _body(message: bytes) -> bytes:
    """A message without its tag and length."""
    at = 1
    while message[at] & 0x80:
        at += 1
    return message[at + 1 :]


WORDS = b"".join(HOSTILE.values())


@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_a_hostile_receiver_of_http(status: int) -> None:
    """Body, headers and reason are the peer's; what is said of them is ours."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 1 << 62
    response.partial_success.error_message = WORDS.decode(errors="ignore") * 1000
    body = response.SerializeToString() if status == 200 else WORDS * 1000
    reply = Reply(
        status, {"Retry-After": "\x1b[2J" * 9, "Content-Type": "\x9b2J", "Location": "http://evil.example"}, body
    )
    with receiver(lambda _n: reply) as running:
        sender = send.sender(endpoint.resolve("traces", running.url, "http/protobuf"))
        answer = sender.send(b"", 5)
        assert answer.reason.isprintable()
        assert len(answer.reason) <= 80
        _check_delivery(sender)


def _check_delivery(sender: send.Sender) -> None:
    delivery = Delivery(sender, Limits(retry_s=0))
    delivery.put([SpanMaker(Clock(), lambda _row: Identity("svc")).span(one) for one in rows(batch({}, {}))])
    delivery.close(10)
    counts = delivery.counts()
    assert counts.acknowledged + sum(counts.failed.values()) == 2
    assert counts.failed
    assert span_account(2, counts).line().isprintable()


@contextmanager
def grpc_server(answer: Any) -> Iterator[str]:
    """A gRPC server on which every method does what it is told."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0)


def test_a_hostile_receiver_of_grpc() -> None:
    words = WORDS.decode(errors="ignore")

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", WORDS), ("x", "y" * 1000)))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, words.replace("\0", "") * 10)
        return b""

    def garbage(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return WORDS

    for answer in (refuse, garbage):
        with grpc_server(answer) as url:
            sender = send.sender(endpoint.resolve("traces", url, "grpc"))
            reason = sender.send(b"", 5).reason
            assert reason.isprintable()
            assert reason in ("invalid argument", "internal")
            _check_delivery(sender)


def test_a_log_line_is_escaped() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "told \x1b[2J %s\nsecond", ("\u202e",), None)
    assert cli.Formatter("%(levelname)s %(message)s").format(record) == "WARNING told \\x1b[2J \\u202e\nsecond"


@pytest.mark.parametrize(
    "words",
    [["trace", "--\x1b[2J"], ["\x1b]0;x\x07"], ["trace", "--config", "/nowhere\x1b[2J\u202e"], ["trace", "--otlp", "x\x1b[2J"],
     ["trace", "--role", "\x9b2J"], ["trace", "--pid", "\x1b[2J"]],
)  # fmt: skip
def test_an_error_that_quotes_is_escaped(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "ringspan.cli", *words], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.startswith("ringspan: ")
    assert text.removesuffix("\n").isprintable(), text
