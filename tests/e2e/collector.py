"""A real OpenTelemetry Collector: from the tests' cache or PATH, else built; its file exporter holds what arrived."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peers.build import PeerUnavailable, cache_dir, ensure

CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{grpc}}}, http: {{endpoint: 127.0.0.1:{http}}}}}}}
exporters:
  file: {{path: {out}, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""


def binary() -> str:
    """The collector's program, or a skip that says why there is none."""
    cached = cache_dir() / "bin" / "otelcol"
    found = str(cached) if os.access(cached, os.X_OK) else shutil.which("otelcol") or shutil.which("otelcol-contrib")
    try:
        return found or str(ensure("otelcol"))
    except PeerUnavailable as error:
        pytest.skip(f"no OpenTelemetry Collector at {cached} nor on PATH, and none can be built: {error}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Point:
    """One data point of a metric, and whose it is."""

    name: str
    unit: str
    kind: str  # as OTLP names the data: histogram, exponentialHistogram, sum, gauge
    temporality: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    value: dict[str, Any]  # the point itself


@dataclass
class Collector:
    """A running collector."""

    grpc: int
    http: int
    out: Path
    pid: int = 0

    def url(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}"

    def spans(self, expect: int, timeout: float = 10) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Waits for so many spans; returns each with its resource's attributes."""
        deadline = time.monotonic() + timeout
        while len(found := self._read()) < expect and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def metrics(self, *, every: bool = False) -> list[Point]:
        """The points that arrived: of each series the last, or every one."""
        points = [
            Point(metric["name"], metric.get("unit", ""), kind, data.get("aggregationTemporality", 0),
                  attributes(point), attributes(group["resource"]), point)
            for group in self._groups("resourceMetrics")
            for scope in group["scopeMetrics"]
            for metric in scope["metrics"]
            for kind, data in metric.items()
            if isinstance(data, dict)
            for point in data["dataPoints"]
        ]  # fmt: skip
        last = {(p.name, *sorted(p.attributes.items()), *sorted(p.resource.items())): p for p in points}
        return points if every else list(last.values())

    def _groups(self, kind: str) -> list[dict[str, Any]]:
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        return [group for line in lines for group in json.loads(line).get(kind, [])]

    def _read(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        groups = self._groups("resourceSpans")
        return [(span, attributes(g["resource"])) for g in groups for s in g["scopeSpans"] for span in s["spans"]]


def plain(value: dict[str, Any]) -> Any:
    """An OTLP value in JSON as a Python value."""
    kind, content = next(iter(value.items()))
    if kind == "intValue":
        return int(content)
    return [plain(one) for one in content["values"]] if kind == "arrayValue" else content


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: plain(one["value"]) for one in holder.get("attributes", [])}


@contextmanager
def collector(folder: Path, grpc: int = 0, http: int = 0) -> Iterator[Collector]:
    program = binary()
    running = Collector(grpc or free_port(), http or free_port(), folder / "spans.jsonl")
    config = folder / "collector.yaml"
    config.write_text(CONFIG.format(grpc=running.grpc, http=running.http, out=running.out))
    process = subprocess.Popen([program, "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    running.pid = process.pid
    try:
        for port in (running.grpc, running.http):
            _wait_for(port)
        yield running
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"the collector does not listen on port {port}")
