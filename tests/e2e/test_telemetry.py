"""What leaves as OTLP, as a real collector received it: spans by the conventions, metrics that agree with them."""

from __future__ import annotations

import bisect
import os
import socket
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from peers import load
from peers.clients import run
from peers.plan import Call, plan_for
from peers.servers import start
from peers.test_peers import available
from ringspan.metrics.buckets import SECONDS
from ringspan.sampling import BURST_S

from .collector import Collector, attributes, collector, free_port
from .surroundings import ANSWERS, answering, environment, exchange
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend]
SERVER_KIND, CLIENT_KIND = 2, 3
UNSET, ERROR = 0, 2
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01".encode()
EVERY_HALF_SECOND = {"OTEL_METRIC_EXPORT_INTERVAL": "500"}
DURATIONS = {"http.server.request.duration": SERVER_KIND, "http.client.request.duration": CLIENT_KIND}


def flags_for(running: Collector, *ports: int, protocol: str = "grpc") -> list[str]:
    named = [flag for port in ports for flag in ("--port", str(port))]
    return [*named, "--otlp", running.url(protocol), "--protocol", protocol]


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Spans of one of each, by kind and target; resources beside them; and the ports."""
    refused = free_port()
    with collector(tmp_path_factory.mktemp("semconv")) as running, answering(ANSWERS) as port:
        with trace(*flags_for(running, port, refused)) as tracer:
            host = b"Host: shop.example:8080\r\nUser-Agent: probe/1\r\n"
            exchange(port, b"GET /ok?page=2&token=s3cret HTTP/1.1\r\n" + host + b"\r\n")
            exchange(port, b"GET /gone HTTP/1.1\r\n" + host + b"traceparent: " + TRACEPARENT + b"\r\n\r\n")
            exchange(port, b"BREW /broken HTTP/1.0\r\nHost: a\r\n\r\n")
            exchange(port, b"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            exchange(port, b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
            with socket.socket() as client:
                client.connect_ex(("127.0.0.1", refused))
            tracer.rows(expect=11)
            tracer.stop()
        found = running.spans(11)
    assert len(found) == 11
    return {(span["kind"], target_of(span)): (span, resource) for span, resource in found}, port, refused


def target_of(span: dict[str, Any]) -> str:
    named = attributes(span)
    if span["name"] == "tcp connect":
        return "connect"
    return named.get("url.path") or "/" + named["url.full"].split("/", 3)[3].split("?")[0]


COMMON_SERVER = {"url.scheme": "http", "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1",
                 "network.transport": "tcp"}  # fmt: skip
SERVER = {
    "/ok": {"http.request.method": "GET", "url.path": "/ok", "url.query": "page=2&token=REDACTED",
            "http.response.status_code": 200, "network.protocol.version": "1.1", "server.address": "shop.example",
            "server.port": 8080, "user_agent.original": "probe/1", "http.response.body.size": 2,
            "http.request.body.size": 0},
    "/gone": {"http.request.method": "GET", "url.path": "/gone", "http.response.status_code": 404,
              "network.protocol.version": "1.1", "server.address": "shop.example", "server.port": 8080,
              "user_agent.original": "probe/1", "http.response.body.size": 2, "http.request.body.size": 0},
    "/broken": {"http.request.method": "_OTHER", "http.request.method_original": "BREW", "url.path": "/broken",
                "http.response.status_code": 503, "error.type": "503", "network.protocol.version": "1.0",
                "server.address": "a", "http.response.body.size": 2, "http.request.body.size": 0},
    "/none": {"http.request.method": "POST", "url.path": "/none", "error.type": "connection_closed",
              "network.protocol.version": "1.1", "server.address": "a", "http.request.body.size": 4,
              "http.response.body.size": 0},
    "/cut": {"http.request.method": "GET", "url.path": "/cut", "http.response.status_code": 200,
             "error.type": "incomplete", "network.protocol.version": "1.1", "server.address": "a",
             "http.request.body.size": 0, "http.response.body.size": 3},
}  # fmt: skip
CLIENT_ERRORS = {"/gone": "404", "/broken": "503", "/none": "connection_closed", "/cut": "incomplete"}


@pytest.mark.parametrize("target", SERVER)
def test_server_spans_have_these_attributes_and_no_others(received: Any, target: str) -> None:
    spans, port, _ = received
    span, _ = spans[SERVER_KIND, target]
    have = attributes(span)
    peer_port, pid = have.pop("network.peer.port"), have.pop("process.pid")
    assert have == {"server.port": port} | COMMON_SERVER | SERVER[target]
    assert 1024 < peer_port < 65536
    assert pid == os.getpid()
    assert span["name"] == ("HTTP" if target == "/broken" else SERVER[target]["http.request.method"])
    assert span.get("status", {}).get("code", UNSET) == (UNSET if target in ("/ok", "/gone") else ERROR)


@pytest.mark.parametrize("target", SERVER)
def test_client_spans_have_these_attributes_and_no_others(received: Any, target: str) -> None:
    spans, port, _ = received
    span, _ = spans[CLIENT_KIND, target]
    have = attributes(span)
    assert have.pop("process.pid") == os.getpid()
    server = {
        name: value for name, value in SERVER[target].items() if name not in ("url.path", "url.query", "error.type")
    }
    query = SERVER[target].get("url.query")
    host = "shop.example:8080" if target in ("/ok", "/gone") else "a"
    full = {"url.full": f"http://{host}{target}" + (f"?{query}" if query else "")}
    peer = {"network.peer.address": "127.0.0.1", "network.peer.port": port, "network.transport": "tcp"}
    error = {"error.type": CLIENT_ERRORS[target]} if target in CLIENT_ERRORS else {}
    assert have == {"server.port": port} | server | peer | full | error
    assert span.get("status", {}).get("code", UNSET) == (UNSET if target == "/ok" else ERROR)


def test_a_failed_connect_is_a_client_span(received: Any) -> None:
    spans, _, refused = received
    span, _ = spans[CLIENT_KIND, "connect"]
    have = attributes(span)
    assert have.pop("process.pid") == os.getpid()
    assert have == {
        "error.type": "ECONNREFUSED", "server.address": "127.0.0.1", "server.port": refused,
        "network.peer.address": "127.0.0.1", "network.peer.port": refused, "network.transport": "tcp",
        "http.request.body.size": 0, "http.response.body.size": 0,
    }  # fmt: skip
    assert span["status"]["code"] == ERROR


def test_a_traceparent_is_the_parent_of_the_client_and_that_of_the_server(received: Any) -> None:
    spans, _, _ = received
    for path, trace_id, parent in (("/gone", TRACE, PARENT), ("/ok", spans[CLIENT_KIND, "/ok"][0]["traceId"], "")):
        client, server = spans[CLIENT_KIND, path][0], spans[SERVER_KIND, path][0]
        assert (client["traceId"], client.get("parentSpanId", "")) == (trace_id, parent)
        assert (server["traceId"], server["parentSpanId"]) == (trace_id, client["spanId"])
        assert len({client["spanId"], server["spanId"], parent}) == 3


def test_resources_are_of_one_service_instance(received: Any) -> None:
    spans, _, _ = received
    resources = [resource for _, resource in spans.values()]
    assert all(one == resources[0] for one in resources)
    assert {"service.name", "service.instance.id", "host.name", "process.executable.path"} <= set(resources[0])
    assert "process.pid" not in resources[0]


def test_metrics_and_spans_agree(tmp_path: Path) -> None:
    """Of each series: as many as spans, of the same durations, in the same buckets."""
    available("requests")
    with environment(**EVERY_HALF_SECOND), collector(tmp_path) as running, start("http.server") as server:
        with trace(*flags_for(running, server.port)) as tracer:
            plan = plan_for("http.server") * 8
            run("requests", server.url, plan)
            tracer.rows(expect=2 * len(plan), timeout=15)
            ended = tracer.stop()
        spans = running.spans(2 * len(plan))
        points = running.metrics()
    assert f"acknowledged {2 * len(plan)}" in ended.ledger
    groups: dict[Any, list[int]] = defaultdict(list)
    for span, resource in spans:
        groups[span["kind"], resource["service.name"], series_of(span)].append(
            int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
        )
    last = {
        (DURATIONS[p.name], p.resource["service.name"], frozenset(p.attributes.items())): p
        for p in points
        if p.name in DURATIONS
    }
    assert set(last) == set(groups)
    for key, durations in groups.items():
        point = last[key]
        assert point.unit == "s"
        assert point.kind == "histogram"
        assert int(point.value["count"]) == len(durations)
        assert point.value["sum"] == pytest.approx(sum(durations) / 1e9, rel=1e-9)
        assert tuple(point.value["explicitBounds"]) == SECONDS
        counted = Counter(bisect.bisect_left(SECONDS, one / 1e9) for one in durations)
        assert [int(n) for n in point.value["bucketCounts"]] == [counted[i] for i in range(len(SECONDS) + 1)]
        assert "process.pid" not in point.resource


def series_of(span: dict[str, Any]) -> Any:
    names = ["http.request.method", "http.response.status_code", "error.type", "network.protocol.version"]
    names += ["url.scheme"] if span["kind"] == SERVER_KIND else ["server.address", "server.port"]
    have = attributes(span)
    return frozenset((name, have[name]) for name in names if name in have)


def test_exemplars_are_spans_that_arrived(tmp_path: Path) -> None:
    with environment(**EVERY_HALF_SECOND), collector(tmp_path) as running, start("http.server") as server:
        with trace(*flags_for(running, server.port)) as tracer:
            run("curl-reuse", server.url, [Call("GET", "/api/users")] * 20)
            tracer.rows(expect=40)
            tracer.stop()
        ids = {span["spanId"] for span, _ in running.spans(40)}
        named = {one["spanId"] for p in running.metrics(every=True) for one in p.value.get("exemplars", [])}
    assert named
    assert named <= ids


def test_own_metrics_are_the_ledger(tmp_path: Path) -> None:
    with environment(**EVERY_HALF_SECOND), collector(tmp_path) as running, start("http.server") as server:
        with trace(*flags_for(running, server.port)) as tracer:
            run("curl-reuse", server.url, [Call("GET", "/api/users")] * 10)
            tracer.rows(expect=20)
            tracer.stop()
        own = {
            (p.name, *sorted(p.attributes.items())): p
            for p in running.metrics()
            if p.resource["service.name"] == "ringspan"
        }
    recorded = own["ringspan.exchanges", ("ringspan.outcome", "recorded")]
    assert (
        int(recorded.value["asDouble"] if "asDouble" in recorded.value else recorded.value["asInt"]),
        recorded.unit,
    ) == (20, "{exchange}")
    for name, unit in (("process.memory.usage", "By"), ("ringspan.series", "{series}")):
        assert own[name,].unit == unit
    assert own["process.cpu.time", ("cpu.mode", "user")].unit == "s"


@pytest.mark.parametrize(
    ("values", "kind", "temporality"),
    [
        ({"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}, "histogram", 1),
        ({"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram"},
         "exponentialHistogram", 2),
    ],
)  # fmt: skip
def test_the_sdks_variables_choose_the_form(
    tmp_path: Path, values: dict[str, str], kind: str, temporality: int
) -> None:
    with environment(**EVERY_HALF_SECOND, **values), collector(tmp_path) as running, start("http.server") as server:
        with trace(*flags_for(running, server.port), "--role", "server") as tracer:
            for _ in range(3):
                run("curl-reuse", server.url, [Call("GET", "/api/users")] * 5)
                time.sleep(0.6)
            tracer.rows(expect=15)
            tracer.stop()
        points = [p for p in running.metrics(every=True) if p.name == "http.server.request.duration"]
    assert {(p.kind, p.temporality) for p in points} == {(kind, temporality)}
    counts = [int(p.value["count"]) for p in points]
    assert (sum(counts) if temporality == 1 else counts[-1]) == 15


def test_what_is_not_sampled_is_counted_all_the_same(tmp_path: Path) -> None:
    with environment(OTEL_TRACES_SAMPLER="always_off", **EVERY_HALF_SECOND), collector(tmp_path) as running:
        with start("http.server") as server, trace(*flags_for(running, server.port), "--role", "server") as tracer:
            run("curl-reuse", server.url, [Call("GET", "/api/users")] * 30)
            tracer.rows(expect=30)
            ended = tracer.stop()
        counts = [int(p.value["count"]) for p in running.metrics() if p.name == "http.server.request.duration"]
        assert running.spans(0, timeout=0) == []
    assert counts == [30]
    assert "unsampled (sampler) 30" in ended.ledger
    assert "off by" not in ended.ledger


def test_a_budget_keeps_the_errors(tmp_path: Path) -> None:
    available("vegeta")
    with collector(tmp_path) as running, start("http.server") as server:
        flags = [*flags_for(running, server.port), "--role", "server", "--spans-per-second", "20"]
        with trace(*flags) as tracer:
            began, targets = time.monotonic(), [f"{server.url}/api/users"] * 19 + [f"{server.url}/boom"]
            sent = load.rate_run(targets, 400, 2, 4)["requests"]
            took = time.monotonic() - began
            tracer.rows(expect=sent, timeout=20)
            ended = tracer.stop()
        found = [attributes(span) for span, _ in running.spans(0, timeout=0)]
    assert sum(one["http.response.status_code"] == 500 for one in found) == sent // 20
    assert len(found) <= 20 * (BURST_S + took + 1) < sent
    assert f"unsampled (budget) {sent - len(found)}" in ended.ledger
    assert "off by" not in ended.ledger


def test_attributes_that_must_be_asked_for_arrive(tmp_path: Path) -> None:
    config = tmp_path / "ringspan.yaml"
    config.write_text(
        "opt_in: [client.port, network.local.address, network.local.port, url.scheme]\nbody_sizes: true\n"
    )
    with environment(**EVERY_HALF_SECOND), collector(tmp_path) as running, answering(ANSWERS) as port:
        with trace(*flags_for(running, port), "--config", str(config)) as tracer:
            exchange(port, b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            tracer.rows(expect=2)
            tracer.stop()
        spans = {span["kind"]: attributes(span) for span, _ in running.spans(2)}
        sizes = {p.name: (p.unit, p.value["sum"]) for p in running.metrics() if p.name.endswith("body.size")}
    served, made = spans[SERVER_KIND], spans[CLIENT_KIND]
    assert served["client.port"] == served["network.peer.port"] == made["network.local.port"]
    assert served["network.local.port"] == port
    assert served["network.local.address"] == made["network.local.address"] == "127.0.0.1"
    assert served["url.scheme"] == made["url.scheme"] == "http"
    assert "client.port" not in made
    assert sizes == {
        "http.server.request.body.size": ("By", 4), "http.server.response.body.size": ("By", 2),
        "http.client.request.body.size": ("By", 4), "http.client.response.body.size": ("By", 2),
    }  # fmt: skip
