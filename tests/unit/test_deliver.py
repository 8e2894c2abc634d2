"""The queue and what becomes of spans, with a real receiver that takes, refuses, delays and vanishes."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ringspan.clock import Clock
from ringspan.deliver import Delivery, Limits
from ringspan.ledger import SpanCounts
from ringspan.model import Identity, Span
from ringspan.otlp import endpoint, send
from ringspan.spans import SpanMaker

from .receiver import Reply, receiver, rejecting
from .rows import row


def spans(count: int) -> list[Span]:
    maker = SpanMaker(Clock(), lambda _row: Identity("svc"))
    return [maker.span(row(span_id=i + 1)) for i in range(count)]


def delivery(url: str, protocol: str = "http/protobuf", **limits: Any) -> Delivery:
    sender = send.sender(endpoint.resolve("traces", url, protocol))
    return Delivery(sender, Limits(**{"linger_s": 0.01, "timeout_s": 2.0, **limits}))


def settled(running: Delivery, done: Callable[[SpanCounts], bool], timeout: float = 5) -> SpanCounts:
    end = time.monotonic() + timeout
    while not done(running.counts()) and time.monotonic() < end:
        time.sleep(0.01)
    return running.counts()


class Service(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes all."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []

    def Export(self, request: ExportTraceServiceRequest, _context: Any) -> Any:  # noqa: N802
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_all_is_acknowledged() -> None:
    with receiver(lambda _n: Reply()) as there:
        running = delivery(there.url, batch_spans=100)
        running.put(spans(250))
        running.close(2)
        assert running.counts() == SpanCounts({}, 0, 0, 250, {})
        assert (len(there.requests), there.spans()) == (3, 250)
        assert there.requests[0][0]["content-type"] == "application/x-protobuf"


def test_partial_success_is_counted() -> None:
    with receiver(lambda _n: rejecting(3)) as there:
        running = delivery(there.url)
        running.put(spans(10))
        running.close(2)
    assert running.counts() == SpanCounts({}, 0, 0, 7, {"rejected by the receiver": 3})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_receivers_are_asked_again(status: int) -> None:
    with receiver(lambda n: Reply(status) if n < 2 else Reply()) as there:
        running = delivery(there.url)
        running.put(spans(10))
        counts = settled(running, lambda c: c.acknowledged == 10)
        assert counts == SpanCounts({}, 0, 0, 10, {})
        assert len(there.requests) == 3


def test_retry_after_is_kept() -> None:
    times = []

    def reply(n: int) -> Reply:
        times.append(time.monotonic())
        return Reply(503, {"Retry-After": "1"}) if n == 0 else Reply()

    with receiver(reply) as there:
        running = delivery(there.url)
        running.put(spans(1))
        settled(running, lambda c: c.acknowledged == 1)
    assert 1 <= times[1] - times[0] < 1.5


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_refusal_is_final_and_named(status: int) -> None:
    with receiver(lambda _n: Reply(status)) as there:
        running = delivery(there.url)
        running.put(spans(4))
        counts = settled(running, lambda c: bool(c.failed))
        assert counts == SpanCounts({}, 0, 0, 0, {f"HTTP {status}": 4})
        assert len(there.requests) == 1


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_batch_is_given_up_after_its_time(protocol: str) -> None:
    running = delivery(f"http://127.0.0.1:{free_port()}", protocol, retry_s=0.5)
    running.put(spans(4))
    counts = settled(running, lambda c: bool(c.failed))
    assert counts.failed == {"unavailable" if protocol == "grpc" else "unreachable": 4}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_end_does_not_wait_for_a_receiver_that_is_down(protocol: str) -> None:
    running = delivery(f"http://127.0.0.1:{free_port()}", protocol, batch_spans=10)
    running.put(spans(1000))
    time.sleep(0.3)
    began = time.monotonic()
    running.close(1)
    assert time.monotonic() - began < 1.3
    assert sum(running.counts().failed.values()) == 1000


def test_a_hanging_receiver_delays_neither_the_caller_nor_the_end() -> None:
    with receiver(lambda _n: time.sleep(3) or Reply()) as there:
        running = delivery(there.url)
        running.put(spans(5))
        time.sleep(0.1)
        began = time.monotonic()
        running.put(spans(5))
        assert time.monotonic() - began < 0.1
        running.close(0.5)
        assert time.monotonic() - began < 1
        assert running.counts().failed == {"not sent by the end": 10}


def test_the_queue_is_bounded_by_count_and_by_bytes() -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        for limits in ({"queue_spans": 50}, {"queue_bytes": 20_000}):
            running = delivery(url, batch_spans=10, **limits)
            running.put(spans(10))
            settled(running, lambda c: c.exported == 10)
            running.put(spans(200))
            counts = running.counts()
            assert counts.queued + counts.failed["queue full"] == 200
            assert counts.queued == 50 or 0 < counts.queued * 300 < 20_000
            running.close(0.1)
            assert sum(running.counts().failed.values()) == 210


def test_a_receiver_that_comes_back_gets_all_that_waited() -> None:
    port = free_port()
    running = delivery(f"http://127.0.0.1:{port}", "grpc", retry_s=30)
    running.put(spans(20))
    time.sleep(0.5)
    assert running.counts().acknowledged == 0
    service = Service()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        counts = settled(running, lambda c: c.acknowledged == 20, 12)
    finally:
        server.stop(0)
    assert counts == SpanCounts({}, 0, 0, 20, {})
    assert len(service.received) == 1


@pytest.mark.parametrize(("name", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_compression_and_headers(monkeypatch: pytest.MonkeyPatch, name: str, unpack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret,x=a%20b")
    with receiver(lambda _n: Reply()) as there:
        running = delivery(there.url)
        running.put(spans(3))
        running.close(2)
        headers, body = there.requests[0]
    assert (headers["content-encoding"], headers["api-key"], headers["x"]) == (name, "s3cret", "a b")
    assert len(ExportTraceServiceRequest.FromString(unpack(body)).resource_spans[0].scope_spans[0].spans) == 3


@pytest.mark.parametrize("value", ["\xb2", "0", "-5", "soon", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
def test_an_odd_retry_after_is_no_hot_loop_and_no_end(value: str) -> None:
    with receiver(lambda n: Reply(429, {"Retry-After": value}) if n < 3 else Reply()) as there:
        running = delivery(there.url)
        running.put(spans(1))
        time.sleep(0.25)
        assert len(there.requests) <= 3
        assert settled(running, lambda c: c.acknowledged == 1).acknowledged == 1


def test_a_partial_success_below_zero_counts_as_none() -> None:
    with receiver(lambda _n: rejecting(-5)) as there:
        running = delivery(there.url)
        running.put(spans(3))
        running.close(2)
    assert running.counts() == SpanCounts({}, 0, 0, 3, {})


def test_a_sender_that_breaks_costs_its_batch_alone() -> None:
    class Broken:
        calls = 0

        def send(self, _body: bytes, _timeout_s: float) -> send.Answer:
            self.calls += 1
            if self.calls == 1:
                raise KeyError("x")
            return send.Answer(taken=True)

        def cancel(self) -> None:
            pass

    running = Delivery(Broken(), Limits(linger_s=0.01, batch_spans=5))
    running.put(spans(10))
    running.close(2)
    assert running.counts() == SpanCounts({}, 0, 0, 5, {"KeyError": 5})


def test_batches_stay_below_what_receivers_take() -> None:
    maker = SpanMaker(Clock(), lambda _row: Identity("svc"))
    large = [maker.span(row(span_id=i + 1, target=b"/%d" % i + b"x" * 600)) for i in range(8000)]
    with receiver(lambda _n: Reply()) as there:
        running = delivery(there.url, batch_spans=8192)
        running.put(large)
        running.close(5)
        assert max(len(body) for _, body in there.requests) < 4 << 20
    assert running.counts().acknowledged == 8000


def test_an_answer_that_drips_is_not_waited_for() -> None:
    with socket.socket() as dripping:
        dripping.bind(("127.0.0.1", 0))
        dripping.listen()

        def drip() -> None:
            connection, _ = dripping.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(100):
                    connection.sendall(b"x" * 1024)
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        sender = send.sender(
            endpoint.resolve("traces", f"http://127.0.0.1:{dripping.getsockname()[1]}", "http/protobuf")
        )
        began = time.monotonic()
        answer = sender.send(b"", 0.5)
        assert time.monotonic() - began < 1.5
    assert (answer.taken, answer.again, answer.reason) == (False, True, "timeout")
