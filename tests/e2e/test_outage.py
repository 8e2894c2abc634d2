"""A collector that is away: nothing stalls, the bound holds, every span is accounted for, and all recovers alone."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from peers import load
from peers.servers import start
from peers.test_peers import available

from .collector import collector, free_port
from .numbered import serve_each
from .test_command_line import begin, end
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.backend]
RATE = 500
OUTAGE_SECONDS = int(os.environ.get("RINGSPAN_OUTAGE_SECONDS", "60"))
QUEUE, BATCH = 10_000, 512
RECOVERED_SECONDS = 30


def parts(ledger: str, account: str) -> dict[str, int]:
    line = next(line for line in ledger.splitlines() if line.startswith(f"ledger {account}"))
    return {name.strip(): int(count) for name, count in re.findall(r"([a-z][a-z ()]*) (\d+)", line.partition(": ")[2])}


def test_an_outage_under_load(tmp_path: Path) -> None:
    """What the queue cannot hold is dropped, and counted to the last span; the rest arrives once the collector is back."""
    available("nginx")
    available("vegeta")
    config = tmp_path / "ringspan.yaml"
    config.write_text(f"queue_spans: {QUEUE}\nspans_per_second: 0\nretry_s: 600\n")
    grpc, http = free_port(), free_port()
    with start("nginx") as server:
        flags = [
            "--port",
            str(server.port),
            "--role",
            "server",
            "--otlp",
            f"http://127.0.0.1:{grpc}",
            "--config",
            str(config),
        ]
        with trace(*flags) as tracer:
            done = load.rate_run(f"{server.url}/api/users", RATE, OUTAGE_SECONDS, 8)
            sent = done["requests"]
            rows = tracer.rows(expect=sent, timeout=10)
            assert len(rows) == sent  # the display went on
            with collector(tmp_path, grpc=grpc, http=http) as running:
                arrived = running.spans(min(sent, QUEUE), timeout=RECOVERED_SECONDS)
                more = load.rate_run(f"{server.url}/api/users", RATE, 2, 8)["requests"]
                arrived = running.spans(len(arrived) + more, timeout=RECOVERED_SECONDS)
                ended = tracer.stop()
                arrived = running.spans(0, timeout=0)
    spans, exchanges = parts(ended.ledger, "spans"), parts(ended.ledger, "exchanges")
    dropped = spans.get("failed (queue full)", 0)
    assert sent - QUEUE - BATCH <= dropped <= max(0, sent - QUEUE)  # one batch was on its way, over and over
    assert spans["acknowledged"] == len(arrived) == spans["recorded"] - dropped
    assert len({span["spanId"] for span, _ in arrived}) == len(arrived)
    assert exchanges["recorded"] == sent + more
    assert "off by" not in ended.ledger
    assert ended.seconds < 2


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("how", ["down", "hanging", "refusing"])
def test_the_end_comes_within_two_seconds(protocol: str, how: str) -> None:
    with socket.socket() as hole, start("http.server") as server:
        hole.bind(("127.0.0.1", 0))
        if how == "hanging":
            hole.listen()
        if how == "refusing":
            hole.listen()
            resetting = (hole, lambda connection: connection.recv(10))  # closed with more to read
            threading.Thread(target=serve_each, args=resetting, daemon=True).start()
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        tracer = begin("--show", "none", "--port", str(server.port), "--otlp", url, "--protocol", protocol)
        load.wrk_run(f"{server.url}/api/users", 4, 1, 1)
        time.sleep(0.5)
        _, err, seconds = end(tracer)
    assert seconds < 2
    assert "acknowledged 0" in err
    assert "off by" not in err
