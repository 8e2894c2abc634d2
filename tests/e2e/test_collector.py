"""What a real collector received is what `json` showed: span by span, attribute by attribute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peers.clients import run
from peers.plan import plan_for
from peers.servers import start
from peers.test_peers import available

from .collector import Collector, attributes, collector, free_port
from .tracer import Row, trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend]
KINDS = {2: "server", 3: "client"}


def as_row(span: dict[str, Any], resource: dict[str, Any]) -> Row:
    """A received span in the form of a JSON row."""
    kept = attributes(span)
    return {
        "name": span["name"],
        "kind": KINDS[span["kind"]],
        "trace_id": span["traceId"],
        "span_id": span["spanId"],
        "parent_span_id": span.get("parentSpanId") or None,
        "start_unix_ns": int(span["startTimeUnixNano"]),
        "duration_ns": int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]),
        "status": {0: "unset", 2: "error"}[span.get("status", {}).get("code", 0)],
        "request_body_bytes": kept.pop("http.request.body.size"),
        "response_body_bytes": kept.pop("http.response.body.size"),
        "truncated": kept.pop("ringspan.truncated", []),
        "attributes": kept,
        "resource": resource,
    }


def by_id(rows: list[Row]) -> dict[str, Row]:
    out = {row["span_id"]: {key: value for key, value in row.items() if key != "first_byte_ns"} for row in rows}
    assert len(out) == len(rows), "a span came twice"
    return out


def compare(running: Collector, rows: list[Row]) -> None:
    received = [as_row(span, resource) for span, resource in running.spans(len(rows))]
    assert by_id(received) == by_id(rows)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_collector_holds_exactly_what_json_showed(tmp_path: Path, protocol: str) -> None:
    available("requests")
    refused = free_port()
    with collector(tmp_path) as running, start("http.server") as server:
        flags = [
            "--port",
            str(server.port),
            "--port",
            str(refused),
            "--otlp",
            running.url(protocol),
            "--protocol",
            protocol,
        ]
        with trace(*flags) as tracer:
            plan = plan_for("http.server") * 10
            run("requests", server.url, plan)
            with pytest.raises(Exception, match=r"."):
                run("curl", f"http://127.0.0.1:{refused}", plan[:1])[0].status or (_ for _ in ()).throw(
                    ConnectionError("refused")
                )
            tracer.rows(expect=2 * len(plan) + 1, timeout=15)
            ended = tracer.stop()
            rows = tracer.all_rows()
        assert len(rows) == 2 * len(plan) + 1
        compare(running, rows)
    assert f"acknowledged {len(rows)}" in ended.ledger
    assert "off by" not in ended.ledger


def test_own_exports_are_not_traced(tmp_path: Path) -> None:
    """Both ends of the export are left out: with no filter but the collector's port, there is nothing to see."""
    available("requests")
    with collector(tmp_path) as running, start("http.server") as server:
        ports = [str(server.port), str(running.http)]
        with trace(
            "--port", ports[0], "--port", ports[1], "--otlp", running.url("http"), "--protocol", "http/protobuf"
        ) as tracer:
            plan = plan_for("http.server")
            run("requests", server.url, plan)
            rows = tracer.rows(expect=2 * len(plan), timeout=10)
            running.spans(len(rows))
            tracer.stop()
            assert {row["attributes"]["server.port"] for row in tracer.all_rows()} == {server.port}
            assert len(tracer.all_rows()) == 2 * len(plan)
