"""Reports of metrics and what becomes of them, with real receivers that take, refuse, redirect, reject and go on for ever."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from ringspan.ledger import Ledger, ReportCounts, point_account, report_account
from ringspan.metrics import preferences
from ringspan.metrics.exchanges import ExchangeMetrics, Limits
from ringspan.metrics.own import Reading
from ringspan.metrics.report import POINTS_MAX, Report
from ringspan.metrics.reporter import Reporter
from ringspan.model import Identity
from ringspan.otlp import endpoint, send

from .receiver import Reply, receiver, rejecting_points

CUMULATIVE = AggregationTemporality.CUMULATIVE
POINTS = 8


def report(points: int = POINTS) -> Report:
    metrics = ExchangeMetrics(Limits(), lambda _row: Identity("svc"), 0, 1)
    readings = [Reading(f"r{number}", "1", "", True, (), number) for number in range(points)]
    return Report.of(metrics.snapshot(9), readings, {}, 1)


def reporter(url: str, protocol: str = "http/protobuf", patience_s: float = 2) -> Reporter:
    return Reporter(send.sender(endpoint.resolve("metrics", url, protocol)), CUMULATIVE, patience_s)


def reported(url: str, protocol: str = "http/protobuf", points: int = POINTS, patience_s: float = 2) -> ReportCounts:
    """What became of one report."""
    running = reporter(url, protocol, patience_s)
    running.offer(report(points))
    end = time.monotonic() + 10
    while not running.idle and time.monotonic() < end:
        time.sleep(0.01)
    running.close(1)
    return running.counts()


def closes(counts: ReportCounts) -> bool:
    return Ledger([report_account(counts), point_account(counts)], {}).closes


def test_a_report_that_is_taken_has_arrived() -> None:
    with receiver(lambda _n: Reply()) as there:
        counts = reported(there.url)
        (headers, body), *more = there.requests
    assert (headers["content-type"], headers["accept-encoding"], more) == ("application/x-protobuf", "identity", [])
    (owner,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert sorted(metric.name for metric in owner.scope_metrics[0].metrics) == [f"r{n}" for n in range(POINTS)]
    assert counts == ReportCounts(made=1, arrived=1, points=POINTS, points_acknowledged=POINTS)
    assert closes(counts)


@pytest.mark.parametrize("status", [302, 304, 307, 308, 400, 404, 500])
def test_what_was_not_taken_has_not_arrived(status: int) -> None:
    with receiver(lambda _n: Reply()) as other, receiver(
        lambda _n: Reply(status, {"Location": f"{other.url}/v1/metrics"})
    ) as there:  # fmt: skip
        counts = reported(there.url)
        assert (len(there.requests), other.requests) == (1, [])
    assert (counts.arrived, counts.in_part, counts.failed) == (0, 0, {f"HTTP {status}": 1})
    assert (counts.points_acknowledged, counts.points_failed) == (0, {f"HTTP {status}": POINTS})
    assert closes(counts)


@pytest.mark.parametrize(("rejected", "said"), [(POINTS, POINTS), (3, 3), (1000, POINTS), (-5, 0)])
def test_rejected_points_are_counted(rejected: int, said: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(lambda _n: rejecting_points(rejected, "too\nold")) as there:
        counts = reported(there.url)
    assert (counts.arrived, counts.in_part) == (not said, bool(said))
    assert (counts.points_acknowledged, sum(counts.points_failed.values())) == (POINTS - said, said)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == (
        [f"the receiver rejected {said} data points (too old)"] if said else []
    )
    assert closes(counts)


def test_a_rejection_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(lambda _n: rejecting_points(1)) as there:
        counts = reported(there.url, points=POINTS_MAX + 1)
        assert len(there.requests) == 2
    assert len(caplog.records) == 1
    assert counts.points_failed == {"rejected by the receiver": 2}


class Service(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Rejects so many points, or answers with a code."""

    def __init__(self, rejected: int, code: grpc.StatusCode | None) -> None:
        self.rejected, self.code = rejected, code

    def Export(self, _request: ExportMetricsServiceRequest, context: Any) -> Any:  # noqa: N802
        if self.code:
            context.abort(self.code, "no")
        answer = metrics_service_pb2.ExportMetricsServiceResponse()
        answer.partial_success.rejected_data_points = self.rejected
        return answer


@contextlib.contextmanager
def grpc_receiver(rejected: int = 0, code: grpc.StatusCode | None = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Service(rejected, code), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(0)


@pytest.mark.parametrize("rejected", [0, 3, POINTS])
def test_rejected_points_are_counted_over_grpc(rejected: int) -> None:
    with grpc_receiver(rejected) as url:
        counts = reported(url, "grpc")
    assert (counts.arrived, counts.in_part, counts.failed) == (not rejected, bool(rejected), {})
    assert (counts.points_acknowledged, sum(counts.points_failed.values())) == (POINTS - rejected, rejected)
    assert closes(counts)


def test_a_refusal_over_grpc_is_named() -> None:
    with grpc_receiver(code=grpc.StatusCode.PERMISSION_DENIED) as url:
        counts = reported(url, "grpc")
    assert counts.failed == {"permission denied": 1}
    assert closes(counts)


def test_a_busy_receiver_is_asked_again() -> None:
    with receiver(lambda n: Reply(503) if n < 2 else Reply()) as there:
        assert reported(there.url).arrived == 1
        assert len(there.requests) == 3


def test_a_part_that_fails_fails_the_report_but_not_what_was_acknowledged() -> None:
    with receiver(lambda n: Reply(400) if n else Reply()) as there:
        counts = reported(there.url, points=2 * POINTS_MAX + 1)
    assert (counts.arrived, counts.failed) == (0, {"HTTP 400": 1})
    assert (counts.points_acknowledged, counts.points_failed) == (POINTS_MAX, {"HTTP 400": POINTS_MAX + 1})
    assert closes(counts)


def test_what_is_on_its_way_is_counted_and_at_the_end_has_failed() -> None:
    with receiver(lambda _n: time.sleep(3) or Reply()) as there:
        running = reporter(there.url, patience_s=10)
        running.offer(report())
        while running._offered:
            time.sleep(0.01)
        running.offer(report())
        running.offer(report())
        time.sleep(0.2)
        counts = running.counts()
        assert (counts.made, counts.superseded, counts.under_way, counts.points_under_way) == (3, 1, 2, POINTS)
        assert closes(counts)
        running.close(0.2)
        counts = running.counts()
    assert (counts.under_way, counts.failed) == (0, {"not sent by the end": 2})
    assert counts.points_failed == {"not sent by the end": POINTS}
    assert closes(counts)


def test_an_equation_that_is_wrong_does_not_close() -> None:
    counts = ReportCounts(made=3, arrived=1, failed={"HTTP 307": 1}, points=9, points_acknowledged=8)
    assert not closes(counts)
    assert (report_account(counts).gap, point_account(counts).gap) == (1, 1)
    assert closes(replace(counts, under_way=1, points_under_way=1))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "chunks": (CHUNKED + b"\r\n", b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"),
    "a chunk's size": (CHUNKED + b"\r\n", b"0" * (1 << 20)),
    "a chunk's extension": (CHUNKED + b"\r\n1;", b"x" * (1 << 20)),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 20)),
    "a refusal": (b"HTTP/1.1 400 No\r\n\r\n", b"x" * (1 << 20)),
    "a header": (b"HTTP/1.1 200 OK\r\nx: ", b"x" * (1 << 20)),
    "trailers": (CHUNKED + b"\r\n0\r\n", b"x: x\r\n" * (1 << 17)),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * (1 << 15)),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x: x\r\n" * (1 << 17)),
}
ENDLESS_MB = 200


@contextlib.contextmanager
def endless(head: bytes, part: bytes) -> Iterator[tuple[str, list[int]]]:
    """A receiver whose answer has no end, and how many bytes of it each sender took."""
    took: list[int] = []

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        with contextlib.suppress(OSError):
            connection.sendall(head)
            took.append(0)
            for _ in range(ENDLESS_MB):
                connection.sendall(part)
                took[-1] += len(part)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", took
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("signal", ["traces", "metrics"])
@pytest.mark.parametrize("which", ENDLESS)
def test_an_answer_without_end_is_cut(signal: endpoint.Signal, which: str) -> None:
    with endless(*ENDLESS[which]) as (url, took):
        began = time.monotonic()
        send.sender(endpoint.resolve(signal, url, "http/protobuf")).send(b"x", 5)
        assert time.monotonic() - began < 3
        time.sleep(0.1)
        assert max(took) < 30 << 20  # what the kernel holds for the two is of these


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"])
def test_an_answer_that_comes_byte_by_byte_is_not_waited_for(
    head: bytes, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        with contextlib.suppress(OSError):
            connection.sendall(head)
            for byte in itertools.repeat(b"H", 50):
                connection.sendall(byte)
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=lambda: drip(listening.accept()[0]), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if proxied:
            monkeypatch.setenv("http_proxy", url)
            url = "http://collector.invalid"
        began = time.monotonic()
        answer = send.sender(endpoint.resolve("metrics", url, "http/protobuf")).send(b"x", 0.5)
        assert time.monotonic() - began < 2
    assert (answer.taken, answer.again, answer.reason) == (False, True, "timeout")


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("default login root password n3trc\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("signal", ["traces", "metrics"])
@pytest.mark.parametrize(
    ("headers", "user", "want"),
    [("authorization=Bearer%20given", "", "Bearer given"), ("", "", None), ("", "user:p%40ss@", "Basic dXNlcjpwQHNz")],
)
def test_no_credentials_are_sent_but_those_that_were_given(
    monkeypatch: pytest.MonkeyPatch, signal: endpoint.Signal, headers: str, user: str, want: str | None
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    with receiver(lambda _n: Reply()) as there:
        url = there.url.replace("://", f"://{user}")
        assert send.sender(endpoint.resolve(signal, url, "http/protobuf")).send(b"", 5).taken
        assert there.requests[0][0].get("authorization") == want


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_proxy_of_the_environment_is_gone_through(monkeypatch: pytest.MonkeyPatch, signal: endpoint.Signal) -> None:
    with receiver(lambda _n: Reply()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://me:pw@"))
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://me:pw@"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert (
            send.sender(endpoint.resolve(signal, "http://collector.invalid:4318", "http/protobuf")).send(b"", 5).taken
        )
        ((got, _),) = proxy.requests
    assert (got["host"], got["proxy-authorization"]) == ("collector.invalid:4318", "Basic bWU6cHc=")
    assert "authorization" not in got


@pytest.mark.parametrize(
    ("compression", "unpack"), [("none", bytes), ("gzip", gzip.decompress), ("deflate", zlib.decompress)]
)
def test_each_compression(monkeypatch: pytest.MonkeyPatch, compression: str, unpack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", compression)
    with receiver(lambda _n: Reply()) as there, grpc_receiver() as url:
        assert reported(there.url).arrived == reported(url, "grpc").arrived == 1
        (_, body), *_ = there.requests
    assert len(ExportMetricsServiceRequest.FromString(unpack(body)).resource_metrics) == 1


@pytest.mark.parametrize(
    ("temporality", "histogram"),
    list(
        itertools.product(
            [None, "", "cumulative", "DELTA", " delta ", "lowmemory", "odd"],
            [None, "explicit_bucket_histogram", "base2_exponential_bucket_histogram", "odd"],
        )
    ),
)
def test_preferences_are_the_sdks(
    monkeypatch: pytest.MonkeyPatch, temporality: str | None, histogram: str | None
) -> None:
    for name, value in ((preferences.TEMPORALITY, temporality), (preferences.HISTOGRAM, histogram)):
        if value is not None:
            monkeypatch.setenv(name, value)
    for exporter in (Http(), Grpc(insecure=True)):
        wanted = exporter._preferred_temporality
        assert [preferences.temporality()] * 2 == [wanted[kind] for kind in (Counter, Histogram)]
        kind = exporter._preferred_aggregation[Histogram]
        assert preferences.exponential() is isinstance(kind, ExponentialBucketHistogramAggregation)
        exporter.shutdown()
