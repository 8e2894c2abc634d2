"""Sockets that io_uring drives: seen by --capture tcp, and counted as unseen by --capture syscall."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peers.build import artifact
from peers.test_peers import available

from .collector import free_port
from .tracer import trace

pytestmark = [pytest.mark.root, pytest.mark.peers]
BODY_BYTES, WAIT_NS = 1000, 50_000_000


@contextmanager
def serving() -> Iterator[int]:
    available("uring")
    port = free_port()
    server = subprocess.Popen([artifact("uring"), "server", str(port)])
    try:
        for _ in range(100):
            if server.poll() == 3:
                pytest.skip("this kernel has no io_uring")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


def ask(port: int, path: str) -> None:
    subprocess.run([artifact("uring"), "client", str(port), path], check=True)


def test_a_request_over_io_uring() -> None:
    with serving() as port, trace("--port", str(port)) as tracer:
        for i in range(3):
            ask(port, f"/uring/{i}")
        if tracer.capture == "syscall":
            ended = tracer.stop()
            assert tracer.all_rows() == []
            assert int(re.search(r"(\d+) connections that io_uring moves", ended.ledger)[1]) == 6
            return
        rows = tracer.rows(expect=6)
        ended = tracer.stop()
    assert sorted((row["kind"], row["attributes"]["url.path"] if row["kind"] == "server" else "") for row in rows) == [
        *[("client", "")] * 3,
        *[("server", f"/uring/{i}") for i in range(3)],
    ]
    for row in rows:
        assert row["name"] == "POST"
        assert row["attributes"]["http.response.status_code"] == 201
        assert (row["request_body_bytes"], row["response_body_bytes"]) == (10, BODY_BYTES)
        assert WAIT_NS <= row["duration_ns"] < 100 * WAIT_NS
    assert "lost" not in ended.ledger
    assert "off by" not in ended.ledger
