"""Routes at work: given, from an OpenAPI document and learned, in spans, rows and metrics; the path in none of these names."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from .collector import attributes, collector
from .surroundings import environment
from .test_hostile import Answering, serving
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.backend]
PATHS = [
    "/users/secretname1",
    "/users/secretname2?q=1",
    "/v1/carts/secretname3",
    "/orders/4711/items",
    "/orders/4712/items",
]
NAMES = [
    "GET /users/{name}",
    "GET /users/{name}",
    "GET /v1/carts/{cart}",
    "GET /orders/{id}/items",
    "GET /orders/{id}/items",
]


def ask(port: int, *paths: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for path in paths:
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()


def test_routes_from_traffic_to_the_collector(tmp_path: Path) -> None:
    config, document = tmp_path / "ringspan.yaml", tmp_path / "api.json"
    document.write_text(json.dumps({"servers": [{"url": "/v1"}], "paths": {"/carts/{cart}": {}}}))
    given = ["/users/{name}", {"openapi": str(document)}]
    config.write_text(yaml.safe_dump({"routes": given, "learn_routes": True, "routes_max": 3}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    with environment(OTEL_METRIC_EXPORT_INTERVAL="500"), collector(tmp_path) as running, serving(server) as port:
        with trace("--port", str(port), "--otlp", running.url("grpc"), "--config", str(config)) as tracer:
            ask(port, *PATHS)
            tracer.rows(expect=10)
            ask(port, "/toomany")
            rows = tracer.rows(expect=12)
            config.write_text(yaml.safe_dump({"routes": ["/toomany"]}))
            os.kill(tracer.pid, signal.SIGHUP)
            time.sleep(0.3)
            ask(port, "/toomany", "/users/secretname1")
            rows = tracer.rows(expect=16)
            ended = tracer.stop()
        spans, points = running.spans(16), running.metrics()
    served, made = [row for row in rows if row["kind"] == "server"], [row for row in rows if row["kind"] == "client"]
    assert [row["name"] for row in served] == [*NAMES, "GET", "GET /toomany", "GET"]
    assert {row["name"] for row in made} == {"GET"}
    assert not any("http.route" in row["attributes"] for row in made)
    learned = [row["attributes"].get("ringspan.route.source") for row in served]
    assert learned == [None] * 3 + ["learned"] * 2 + [None] * 3
    assert sorted(span["name"] for span, _ in spans) == sorted([*NAMES, "GET /toomany", *["GET"] * 10])
    assert {name.removeprefix("GET ") for name in (*NAMES, "GET /toomany")} == {
        attributes(span)["http.route"] for span, _ in spans if "http.route" in attributes(span)
    }
    counts = {
        p.attributes.get("http.route"): int(p.value["count"])
        for p in points
        if p.name == "http.server.request.duration"
    }
    assert counts == {"/users/{name}": 2, "/v1/carts/{cart}": 1, "/orders/{id}/items": 2, "/toomany": 1, None: 2}
    assert "secretname" not in "".join(f"{p.attributes}" for p in points)
    assert "1 records without room for their route" in ended.ledger
    assert "off by" not in ended.ledger
    over = [p.value.get("asDouble", p.value.get("asInt")) for p in points if p.name == "ringspan.routes.overflowed"]
    assert [float(one) for one in over] == [1.0]
