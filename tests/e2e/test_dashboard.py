"""The dashboard over ringspan itself: every query has an answer about real traffic."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from peers.clients import run
from peers.plan import plan_for
from peers.process import free_port, wait_until
from peers.servers import start
from peers.test_peers import available

from . import stack
from .surroundings import environment
from .test_stack import ALL, SETTLE_SECONDS, Fed
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend, pytest.mark.timeout(5400)]
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
ROUNDS = 8
NOT_HERE = "Spans failed, by reason: "  # none fails while the collector is there


@contextmanager
def bpf_stats() -> Iterator[None]:
    """The kernel measures BPF programs, as the panel of in-kernel time wants it."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def test_every_query_has_an_answer(tmp_path: Path) -> None:
    available("requests")
    with ExitStack() as running:
        jaeger = running.enter_context(stack.jaeger(tmp_path))
        collector = running.enter_context(stack.collector(tmp_path, jaeger.otlp))
        config = stack.prometheus_config(tmp_path, collector.scraped)
        fed = Fed(running.enter_context(stack.prometheus(tmp_path, config)), jaeger.api, "")
        running.enter_context(bpf_stats())
        server, refused = running.enter_context(start("http.server")), free_port()
        flags = ["--port", str(server.port), "--port", str(refused), "--otlp", collector.url]
        with environment(OTEL_METRIC_EXPORT_INTERVAL="1000"), trace(*flags):
            for _ in range(ROUNDS):
                run("requests", server.url, plan_for("http.server"))
                with socket.socket() as client:
                    client.connect_ex(("127.0.0.1", refused))
                time.sleep(1)
            wait_until(lambda: not fed.unanswered(service=ALL, host=ALL), SETTLE_SECONDS)
            assert [one for one in fed.unanswered(service=ALL, host=ALL) if not one.startswith(NOT_HERE)] == []
