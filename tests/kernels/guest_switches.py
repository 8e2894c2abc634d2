"""Runs in a guest: while what is attached is switched off nothing is seen; that is said, counted, and got over."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from e2e.numbered import exchange
from e2e.tracer import SLOWNESS, trace

PORT, OFF_SECONDS = 15300, 4
SWITCH = Path("/proc/sys/kernel/ftrace_enabled")


def test_a_switch_that_is_turned_off_is_said_and_counted() -> None:
    with trace("--port", str(PORT)) as tracer, socket.create_server(("127.0.0.1", PORT)) as listening:
        client = socket.create_connection(("127.0.0.1", PORT))
        server, _ = listening.accept()
        with client, server:
            exchange(client, server, 1)
            SWITCH.write_text("0")
            try:
                exchange(client, server, 2)
                time.sleep(OFF_SECONDS)
            finally:
                SWITCH.write_text("1")
            time.sleep(1)  # a connection is picked up again when it has been quiet
            exchange(client, server, 3)
            exchange(client, server, 4)
            tracer.rows(2, timeout=3 * SLOWNESS, where=lambda row: row["response_body_bytes"] == 4)
        rows, said = tracer.rows(), tracer.stop().ledger
    bodies = [row["response_body_bytes"] for row in rows]
    assert 2 not in bodies, said
    assert bodies.count(1) == bodies.count(4) == 2, said
    counted = re.search(r"(\d+) seconds in which nothing was seen", said)
    assert counted, said
    assert OFF_SECONDS - 2 <= int(counted[1]) <= OFF_SECONDS * 4
    assert f"{SWITCH} is 0: nothing is seen until it is 1 again" in said
    assert "what is attached runs again" in said
