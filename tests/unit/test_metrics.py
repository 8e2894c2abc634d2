"""Aggregation by column gives what the SDK's instruments give of the same values, one by one."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from ringspan import contract
from ringspan.clock import Clock
from ringspan.metrics import buckets, exchanges, own
from ringspan.metrics.active import ActiveRequests
from ringspan.metrics.exchanges import ExchangeMetrics, Limits
from ringspan.metrics.points import Points
from ringspan.metrics.report import POINTS_MAX, Builder, Report, requests
from ringspan.model import Identity, rows
from ringspan.spans import SpanMaker

from .rows import CLIENT, batch

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
CONNECT = {
    **CLIENT, "kind": contract.number("RECORD_CONNECT_FAILURE"), "failure": 1, "error_number": 111, "status": 0,
    "host": b"", "host_bytes": 0, "method": b"", "target": b"",
}  # fmt: skip
SERVER_NAME, CLIENT_NAME = "http.server.request.duration", "http.client.request.duration"


def who(row: Any) -> Identity:
    return Identity(f"svc-{row.tgid}")


def metrics_of(limits: Limits | None = None) -> ExchangeMetrics:
    return ExchangeMetrics(limits or Limits(), who, 0, 1)


def points_of(metrics: ExchangeMetrics, temporality: AggregationTemporality = CUMULATIVE) -> dict[str, list[Any]]:
    """The points of each metric, of all services; each as (service, attributes, point)."""
    out: dict[str, list[Any]] = {}
    for identity, found in Points(metrics.snapshot(99), None, temporality).metrics().items():
        for metric in found:
            for point in metric.data.data_points:
                service = identity.service_name if identity else None
                out.setdefault(metric.name, []).append((service, dict(point.attributes), point))
    return out


def lasting(duration_ns: int, **changes: Any) -> dict[str, Any]:
    return {"start_ktime_ns": 10, "end_ktime_ns": 10 + duration_ns, **changes}


def test_a_servers_series_has_the_conventions_attributes() -> None:
    metrics = metrics_of()
    metrics.add(batch(lasting(5_000_000), lasting(7_000_000, status=503, failure=0)), 0, 1)
    found = sorted(points_of(metrics)[SERVER_NAME], key=lambda one: one[1]["http.response.status_code"])
    common = {"http.request.method": "GET", "url.scheme": "http", "network.protocol.version": "1.1"}
    assert [(service, attributes) for service, attributes, _ in found] == [
        ("svc-77", {**common, "http.response.status_code": 200}),
        ("svc-77", {**common, "http.response.status_code": 503, "error.type": "503"}),
    ]
    assert [point.count for _, _, point in found] == [1, 1]
    assert found[0][2].bucket_counts == [1] + [0] * 14  # 5 ms is in (.., 5 ms]
    assert found[1][2].bucket_counts == [0, 1] + [0] * 13


def test_https_is_a_series_of_its_own() -> None:
    metrics = metrics_of()
    metrics.add(batch(lasting(1), lasting(1, tls=1), lasting(1, **CLIENT), lasting(1, **CLIENT, tls=1)), 0, 1)
    found = points_of(metrics)
    assert sorted(attributes["url.scheme"] for _, attributes, _ in found[SERVER_NAME]) == ["http", "https"]
    assert sorted(attributes["server.port"] for _, attributes, _ in found[CLIENT_NAME]) == [443, 8080]


def test_a_clients_series_says_whom_it_called() -> None:
    metrics = metrics_of()
    metrics.add(batch(lasting(1, **CLIENT), lasting(1, **CLIENT, host=b"other:81", host_bytes=8)), 0, 1)
    found = {a["server.address"]: a for _, a, _ in points_of(metrics)[CLIENT_NAME]}
    assert found["example.com"]["server.port"] == 8080
    assert found["other"]["server.port"] == 81
    assert "url.scheme" not in found["other"]


def test_absolute_targets_name_the_server() -> None:
    metrics = metrics_of()
    targets = [b"http://a/x", b"http://b/x"]
    metrics.add(batch(*[{**CLIENT, "target": t} for t in targets]), 0, 1)
    assert {a["server.address"] for _, a, _ in points_of(metrics)[CLIENT_NAME]} == {"a", "b"}


def test_failed_connects_are_a_counter_by_reason() -> None:
    metrics = metrics_of()
    metrics.add(batch(CONNECT, CONNECT, {**CONNECT, "failure": 2}), 0, 1)
    found = {a["error.type"]: (a, p.value) for _, a, p in points_of(metrics)["ringspan.connect.failures"]}
    common = {"server.address": "127.0.0.1", "server.port": 8080, "network.transport": "tcp"}
    assert found == {
        "ECONNREFUSED": ({"error.type": "ECONNREFUSED", **common}, 2),
        "timeout": ({"error.type": "timeout", **common}, 1),
    }


def random_durations(count: int) -> list[int]:
    drawn = random.Random(7)
    return [int(10 ** drawn.uniform(2, 10.5)) for _ in range(count)] + [5_000_000, 10_000_000, 0]


def test_explicit_buckets_are_the_sdks() -> None:
    durations = random_durations(2000)
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("t")
    instrument = meter.create_histogram("h", explicit_bucket_boundaries_advisory=list(buckets.SECONDS))
    for one in durations:
        instrument.record(one / 1e9)
    want = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    metrics = metrics_of()
    for at in range(0, len(durations), 100):
        metrics.add(batch(*(lasting(one) for one in durations[at : at + 100])), 0, 1)
    ((_, _, have),) = points_of(metrics)[SERVER_NAME]
    assert (have.count, list(have.bucket_counts), list(have.explicit_bounds)) == (
        want.count,
        list(want.bucket_counts),
        list(want.explicit_bounds),
    )
    assert (have.min, have.max) == (want.min, want.max)
    assert math.isclose(have.sum, want.sum, rel_tol=1e-12)


def test_exponential_buckets_hold_each_value() -> None:
    durations = [one for one in random_durations(500) if 60 < one < 16_000 * 10**9]
    metrics = metrics_of(Limits(exponential=True))
    metrics.add(batch(*(lasting(one) for one in durations)), 0, 1)
    ((_, _, point),) = points_of(metrics)[SERVER_NAME]
    base = 2**2**-point.scale
    want: dict[int, int] = {}
    for one in durations:
        index = next(i for i in range(-300, 200) if base**i < one / 1e9 <= base ** (i + 1))
        want[index] = want.get(index, 0) + 1
    have = {point.positive.offset + i: n for i, n in enumerate(point.positive.bucket_counts) if n}
    assert (have, point.zero_count, point.count) == (want, 0, len(durations))


def test_zero_durations_have_the_zero_bucket() -> None:
    metrics = metrics_of(Limits(exponential=True))
    metrics.add(batch(lasting(0), lasting(0)), 0, 1)
    ((_, _, point),) = points_of(metrics)[SERVER_NAME]
    assert (point.zero_count, list(point.positive.bucket_counts)) == (2, [])


def test_how_records_are_batched_makes_no_difference() -> None:
    drawn = random.Random(3)
    changes = [
        lasting(drawn.randrange(10**9), status=drawn.choice([200, 404, 500]), tgid=drawn.choice([1, 2]), **side)
        for side in ({}, CLIENT)
        for _ in range(300)
    ]
    whole, pieces = metrics_of(), metrics_of()
    whole.add(batch(*changes), 0, 1)
    for at in range(0, len(changes), 7):
        pieces.add(batch(*changes[at : at + 7]), 0, 1)

    def plain(metrics: ExchangeMetrics) -> list[Any]:
        return sorted(
            (name, service, sorted(attributes.items()), point.count, point.bucket_counts, round(point.sum, 9))
            for name, found in points_of(metrics).items()
            for service, attributes, point in found
        )

    assert plain(whole) == plain(pieces)
    assert whole.counted == pieces.counted == 600


def test_beyond_the_limit_is_the_overflow_and_totals_are_exact() -> None:
    metrics = metrics_of(Limits(series=10))
    metrics.add(batch(*(lasting(1, tgid=i) for i in range(1, 31))), 0, 1)
    metrics.add(batch(*(lasting(1, tgid=i, **CLIENT) for i in range(1, 6))), 0, 1)
    found = points_of(metrics)
    over = [(service, point.count) for service, a, point in found[SERVER_NAME] if a == {"otel.metric.overflow": True}]
    assert over == [(None, 20)]
    assert sum(point.count for _, _, point in found[SERVER_NAME]) == 30
    assert sum(point.count for _, _, point in found[CLIENT_NAME]) == 5
    assert metrics.snapshot(1).overflowed == 25


def test_a_million_paths_are_one_series() -> None:
    metrics, total = metrics_of(), 0
    template = batch(*[lasting(1000)] * 20_000)
    for part in range(50):
        numbers = np.arange(part * 20_000, (part + 1) * 20_000)
        template["target"] = np.char.add(b"/orders/", numbers.astype("S8"))
        metrics.add(template, 0, 1)
        total += len(template)
    ((_, _, point),) = points_of(metrics)[SERVER_NAME]
    assert point.count == total == 1_000_000
    assert len(metrics._known) == 1


def test_idle_series_give_their_place_back_and_begin_anew() -> None:
    metrics = metrics_of(Limits(series=1, idle_s=60))
    metrics.add(batch(lasting(1, tgid=1)), 0, 1)
    metrics.tidy(61, 61)
    metrics.add(batch(lasting(1, tgid=2)), 62, 5)
    ((service, _, point),) = points_of(metrics)[SERVER_NAME]
    assert (service, point.count, point.start_time_unix_nano) == ("svc-2", 1, 5)


def test_deltas_add_up_though_an_export_failed() -> None:
    metrics = metrics_of()
    builder = Builder(DELTA)
    arrived: Report | None = None
    counts, starts = [], []
    for at, succeeds in enumerate([True, False, True, True], start=1):
        metrics.add(batch(*[lasting(1)] * at), 0, 1)
        reading = own.Reading("ringspan.exchanges", "{exchange}", "", True, (), metrics.counted)
        report = Report.of(metrics.snapshot(at * 100), [reading], {}, 0)
        data = builder.data(report, arrived)
        by_name = {m.name: m.data.data_points[0] for r in data.resource_metrics for m in r.scope_metrics[0].metrics}
        if succeeds:
            arrived = report
            counts.append((by_name[SERVER_NAME].count, by_name["ringspan.exchanges"].value))
            starts.append(by_name[SERVER_NAME].start_time_unix_nano)
    assert counts == [(1, 1), (5, 5), (4, 4)]
    assert starts == [1, 100, 300]


def test_body_sizes_only_if_asked_for() -> None:
    sizes = {"request_body_bytes": 12, "response_body_bytes": 30_000}
    plain, asked = metrics_of(), metrics_of(Limits(body_sizes=True))
    for metrics in (plain, asked):
        metrics.add(batch(lasting(1, **sizes)), 0, 1)
    assert set(points_of(plain)) == {SERVER_NAME}
    found = points_of(asked)
    assert found["http.server.request.body.size"][0][2].sum == 12
    assert found["http.server.response.body.size"][0][2].bucket_counts[-1] == 1


def test_the_conventions_buckets() -> None:
    assert buckets.SECONDS == (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


@pytest.mark.parametrize("exponential", [False, True])
def test_exemplars_point_at_kept_spans_once(exponential: bool) -> None:
    metrics = metrics_of(Limits(exponential=exponential))
    records = batch(lasting(3_000_000, span_id=5), lasting(400_000_000, span_id=6))
    slots = metrics.add(records, 0, 1)
    made = [SpanMaker(Clock(), who).span(row) for row in rows(records)]
    metrics.exemplify(made[1:], slots[1:])
    ((_, _, point),) = points_of(metrics)[SERVER_NAME]
    assert [(e.span_id, e.trace_id, e.value) for e in point.exemplars] == [(6, made[1].trace_id, 0.4)]
    ((_, _, again),) = points_of(metrics)[SERVER_NAME]
    assert again.exemplars == []
    assert exchanges.DURATION in metrics.snapshot(1).histograms


def test_active_requests_fall_back_to_zero() -> None:
    active = ActiveRequests(who)
    first = active.count(batch({}, {}, CLIENT))
    assert {(key.kind, dict(key.attributes)["http.request.method"]): n for key, n in first.items()} == {
        ("server", "GET"): 2,
        ("client", "GET"): 1,
    }
    assert set(active.count(batch({})[:0]).values()) == {0}
    assert active.count(batch({})[:0]) == {}


def test_reports_are_split_into_requests() -> None:
    metrics = metrics_of()
    metrics.add(batch(*(lasting(1, tgid=i) for i in range(1, 1301))), 0, 1)
    data = Builder(CUMULATIVE).data(Report.of(metrics.snapshot(9), [], {}, 0), None)
    sizes = [points_in(part) for part in requests(data)]
    assert max(sizes) <= POINTS_MAX
    assert sum(sizes) == points_in(data) == 1300


def test_a_request_loses_nothing_in_the_sdks_encoder() -> None:
    metrics = metrics_of(Limits(body_sizes=True))
    metrics.add(batch(*(lasting(1, tgid=i) for i in range(1, 4)), CONNECT), 0, 1)
    readings = [own.Reading(name, "1", "", True, (), 1) for name in ("a", "b")]
    data = Builder(CUMULATIVE).data(Report.of(metrics.snapshot(9), readings, {}, 0), None)
    (part,) = requests(data)
    sent = encode_metrics(part)
    names = sorted(m.name for r in sent.resource_metrics for s in r.scope_metrics for m in s.metrics)
    assert names == sorted(m.name for r in data.resource_metrics for m in r.scope_metrics[0].metrics)
    assert len(names) == 3 * 3 + 1 + 2


def points_in(data: Any) -> int:
    return sum(len(m.data.data_points) for r in data.resource_metrics for m in r.scope_metrics[0].metrics)


def test_a_series_is_kept_until_it_was_reported() -> None:
    metrics = metrics_of(Limits(idle_s=1))
    metrics.add(batch(lasting(1)), 10, 1)
    metrics.tidy(60, 5)  # the last report was made at 5
    assert points_of(metrics)[SERVER_NAME][0][2].count == 1
    metrics.tidy(60, 55)
    assert points_of(metrics) == {}


def test_unix_sockets_are_told_apart() -> None:
    metrics = metrics_of()
    unix = {**CONNECT, "family": 1, "local_address": b"", "remote_address": b"", "remote_port": 0}
    metrics.add(
        batch(*({**unix, "unix_path": path} for path in (b"/tmp/a.sock", b"/tmp/b.sock", b"/tmp/b.sock"))), 0, 1
    )
    found = {a["server.address"]: p.value for _, a, p in points_of(metrics)["ringspan.connect.failures"]}
    assert found == {"/tmp/a.sock": 1, "/tmp/b.sock": 2}
