"""Real Jaeger's API returns exactly the spans of requests through nginx and gunicorn: services, parents, statuses."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from peers.clients import run
from peers.plan import TRACEPARENT, Call
from peers.servers import start
from peers.test_peers import available

from . import stack
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend, pytest.mark.timeout(5400)]
REQUESTS = 3000
ROUTES = [("/api/users", 200), ("/missing/thing", 404), ("/boom", 500), ("/id/7", 200)]
SETTLE_SECONDS = 20
WATCHED_S = 1.5
SIDES = 3  # nginx serves, nginx asks, gunicorn serves


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in span["tags"]}


def found(jaeger: stack.Jaeger, service: str) -> list[dict[str, Any]]:
    """All spans of a service's traces."""
    answer = stack.fetch(f"{jaeger.api}/traces", service=service, limit=str(10 * REQUESTS), lookback="1h")
    return [(trace, span) for trace in (answer or {}).get("data") or [] for span in trace["spans"]]


def service_of(trace: dict[str, Any], span: dict[str, Any]) -> str:
    return trace["processes"][span["processID"]]["serviceName"]


def trace_of(i: int) -> str:
    """The trace of a request; Jaeger leaves zeros at the front out."""
    return f"4bf92f35{i + 1:024x}"


def plan() -> list[Call]:
    """Every fourth request carries a traceparent of its own trace."""
    calls = []
    for i in range(REQUESTS):
        path, _ = ROUTES[i % len(ROUTES)]
        version, _, parent, flags = TRACEPARENT.split("-")
        named = {"traceparent": f"{version}-{trace_of(i)}-{parent}-{flags}"} if i % 4 < 2 else {}
        calls.append(Call("GET", path, headers=named))
    return calls


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_thousands_of_requests_through_nginx_and_gunicorn(tmp_path: Path, protocol: str) -> None:
    available("nginx-gunicorn")
    available("requests")
    with stack.jaeger(tmp_path) as jaeger, start("nginx-gunicorn") as server:
        url = f"http://{jaeger.otlp if protocol == 'grpc' else jaeger.otlp_http}"
        pids = [flag for pid in server.pids for flag in ("--pid", str(pid))]
        with trace(*pids, "--otlp", url, "--protocol", protocol, "--spans-per-second", "0") as tracer:
            calls = plan()
            results = run("requests", server.url, calls)
            rows = tracer.rows(expect=SIDES * REQUESTS, timeout=20)
            ended = tracer.stop()
        assert len(rows) == SIDES * REQUESTS
        assert f"acknowledged {SIDES * REQUESTS}" in ended.ledger
        spans = settled(jaeger)
    assert [result.status for result in results] == [ROUTES[i % len(ROUTES)][1] for i in range(REQUESTS)]
    assert Counter(facts(trace, span) for trace, span in spans) == Counter(facts_of_row(row) for row in rows)
    early = traces_of_the_first(rows, WATCHED_S)
    chains = chains_of([(trace, span) for trace, span in spans if span["traceID"] not in early])
    named = {trace_of(i) for i in range(REQUESTS) if i % 4 < 2}
    assert REQUESTS // 4 < len(chains) <= REQUESTS
    assert {one for one, (parent, *_) in chains.items() if parent} == named - early
    assert {parent for parent, *_ in chains.values()} == {TRACEPARENT.split("-")[2], None}
    assert all(kinds == ["server", "client", "server"] for _, kinds in chains.values())


def traces_of_the_first(rows: list[dict[str, Any]], seconds: float) -> set[str]:
    """The traces of what processes did in the time after their first request: in it, a cause is not told by nginx's rule."""
    first: dict[int, float] = {}
    for row in rows:
        pid = row["attributes"]["process.pid"]
        first[pid] = min(first.get(pid, row["start_unix_ns"]), row["start_unix_ns"])
    return {
        row["trace_id"]
        for row in rows
        if row["start_unix_ns"] < first[row["attributes"]["process.pid"]] + seconds * 1e9
    }


def chains_of(spans: list[Any]) -> dict[str, tuple[str | None, list[str]]]:
    """Of each trace the parent that is not in it, and the kinds of its spans from there down."""
    below: dict[str, dict[str | None, dict[str, Any]]] = {}
    for _, span in spans:
        parent = span["references"][0]["spanID"] if span["references"] else None
        below.setdefault(span["traceID"], {})[parent] = span
    chains = {}
    for identifier, children in below.items():
        ids = {span["spanID"] for span in children.values()}
        (top,) = (parent for parent in children if parent not in ids)
        at = top
        kinds = []
        while at in children:
            span = children[at]
            kinds.append(tags(span)["span.kind"])
            at = span["spanID"]
        chains[identifier] = top, kinds
    return chains


def settled(jaeger: stack.Jaeger) -> list[Any]:
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        services = stack.fetch(f"{jaeger.api}/services")["data"] or []
        by_id = {(t["traceID"], s["spanID"]): (t, s) for service in services for t, s in found(jaeger, service)}
        if len(by_id) >= SIDES * REQUESTS or time.monotonic() > end:
            return list(by_id.values())
        time.sleep(0.5)


def facts(trace: dict[str, Any], span: dict[str, Any]) -> Any:
    named = tags(span)
    parent = span["references"][0]["spanID"] if span["references"] else None
    error = named.get("error", False)
    return (
        service_of(trace, span), span["traceID"], span["spanID"], parent, named["span.kind"],
        named["http.request.method"], named["http.response.status_code"], bool(error), named["process.pid"],
    )  # fmt: skip


def facts_of_row(row: dict[str, Any]) -> Any:
    named = row["attributes"]
    return (
        row["resource"]["service.name"], row["trace_id"], row["span_id"], row["parent_span_id"], row["kind"],
        named["http.request.method"], named["http.response.status_code"], row["status"] == "error",
        named["process.pid"],
    )  # fmt: skip
