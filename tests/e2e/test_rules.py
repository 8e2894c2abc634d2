"""Rules at work: what is dropped, what has metrics alone, what services are called, and a ledger that agrees."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from .collector import attributes, collector
from .control_groups import entered
from .surroundings import environment
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.backend]
ID = "5" * 64
RULES = [
    {"name": "health", "match": {"path": "/health"}, "drop": True},
    {"match": {"path": "/quiet", "exe": "python*"}, "traces": False},
    {
        "match": {"container": ID[:12], "command_line": "*http.server*"},
        "set": {"service.name": "boxed", "service.namespace": "web", "team": "blue"},
    },
]


@contextmanager
def in_container(folder: Path) -> Iterator[int]:
    """A server in a control group that is named like a container's; its port."""
    with entered(ID) as enter:
        command = enter([sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder)
        try:
            yield int(re.search(r"port (\d+)", server.stdout.readline())[1])
        finally:
            server.kill()
            server.wait()


def call(port: int, **times: int) -> None:
    for path, count in times.items():
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", f"/{path}?q=1")
            connection.getresponse().read()
            connection.close()


def test_rules_from_traffic_to_the_collector(tmp_path: Path) -> None:
    config = tmp_path / "ringspan.yaml"
    config.write_text(yaml.safe_dump({"rules": RULES, "active_requests": True}))
    with environment(OTEL_METRIC_EXPORT_INTERVAL="500"), collector(tmp_path) as running, in_container(tmp_path) as port:
        flags = ["--port", str(port), "--role", "server", "--otlp", running.url("grpc"), "--config", str(config)]
        with trace(*flags) as tracer:
            call(port, health=5, quiet=3, other=4)
            rows = tracer.rows(expect=7)
            config.write_text(yaml.safe_dump({"rules": RULES[2:]}))
            os.kill(tracer.pid, signal.SIGHUP)
            time.sleep(0.3)
            call(port, health=2)
            rows = tracer.rows(expect=9)
            ended = tracer.stop()
        spans, points = running.spans(6), running.metrics()
    assert sorted(row["attributes"]["url.path"] for row in rows) == ["/health"] * 2 + ["/other"] * 4 + ["/quiet"] * 3
    assert sorted(attributes(span)["url.path"] for span, _ in spans) == ["/health"] * 2 + ["/other"] * 4
    wanted = {
        "service.name": "boxed", "service.namespace": "web", "team": "blue",
        "container.id": ID, "container.runtime.name": "docker",
    }  # fmt: skip
    for resource in [*(found for _, found in spans), *(row["resource"] for row in rows)]:
        assert {key: resource.get(key) for key in wanted} == wanted
    counts = [
        (p.resource["service.name"], int(p.value["count"])) for p in points if p.name == "http.server.request.duration"
    ]
    assert counts == [("boxed", 9)]
    assert "recorded 9 + in flight 0 + filtered " in ended.ledger
    assert " + filtered (rule health) 5" in ended.ledger
    assert "unsampled (rule) 3" in ended.ledger
    assert "recorded 9 = counted 9" in ended.ledger
    assert "off by" not in ended.ledger
    filtered = [p for p in points if p.attributes.get("ringspan.reason") == "rule health"]
    assert [
        (p.name, p.attributes["ringspan.outcome"], float(p.value.get("asDouble", p.value.get("asInt", 0))))
        for p in filtered
    ] == [("ringspan.exchanges", "filtered", 5.0)] * len(filtered)
    assert filtered
