"""A real collector that counts what it gets and throws it away: no disk is part of what is measured."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.collector import binary
from peers import process

if TYPE_CHECKING:
    from collections.abc import Iterator

# The collector's own log must not be sampled: its lines are the count.
CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{port}}}}}}}
exporters:
  debug: {{verbosity: basic}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{encoding: json, sampling: {{enabled: false}}}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
"""


@dataclass
class Sink:
    """A running collector, and what it had got when it ended."""

    url: str
    pid: int
    spans: int = 0
    points: int = 0


@contextmanager
def sink() -> Iterator[Sink]:
    """Run a collector; its counts are there when the block has ended."""
    with tempfile.TemporaryDirectory(prefix="ringspan-sink-") as name:
        folder, port = Path(name), process.free_port()
        config, log = folder / "collector.yaml", folder / "log"
        config.write_text(CONFIG.format(port=port))
        child = process.spawn([binary(), "--config", str(config)], folder, log)
        running = Sink(f"http://127.0.0.1:{port}", child.pid)
        try:
            _await(child, port, log)
            yield running
        finally:
            process.stop(child)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        running.spans = sum(line.get("spans", 0) for line in lines)
        running.points = sum(line.get("data points", 0) for line in lines)


def _await(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until it listens."""
    if not process.wait_until(lambda: process.connectable(("127.0.0.1", port)), 10) or child.poll() is not None:
        raise SystemExit(f"the collector did not start:\n{log.read_text()[-2000:]}")
