"""Nothing is lost and nothing invented under a steady load: the server's own log is the measure."""

from __future__ import annotations

import os
import re

import pytest

from peers import load
from peers.servers import start
from peers.test_peers import available

from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers]
RATE = 5000
SECONDS = int(os.environ.get("RINGSPAN_LOAD_SECONDS", "60"))


def test_five_thousand_requests_a_second_through_nginx() -> None:
    available("nginx")
    available("vegeta")
    with start("nginx") as server, trace("--port", str(server.port), "--role", "server", "--show", "none") as tracer:
        done = load.rate_run(f"{server.url}/api/users", RATE, SECONDS, 16)
        logged = len(server.access_log(done["requests"]))
        ended = tracer.stop()
    exchanges = next(line for line in ended.ledger.splitlines() if "exchanges" in line)
    recorded = int(re.search(r"recorded (\d+)", exchanges)[1])
    print(exchanges)
    assert done["requests"] > 0.95 * RATE * SECONDS, "the load tool could not keep its rate"
    assert recorded == logged == done["requests"]
    assert "lost" not in exchanges
    assert "off by" not in ended.ledger
