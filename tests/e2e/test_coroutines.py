"""A program that switches stacks within a TLS library runs as it does without ringspan, and is seen."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from peers import build
from peers.process import wait_until

from .tls_peers import SCALE, HttpsServer, answers, ask_many, assert_nothing_lost, make_certificates, seen
from .tracer import trace

if TYPE_CHECKING:
    from pathlib import Path

    from .stage import Ports

pytestmark = pytest.mark.root
CONNECTIONS, EACH = 20, 10 * SCALE
SOURCE = build.SOURCES / "tls" / "coroutines.c"


def built(folder: Path) -> Path:
    out = folder / "coroutines"
    words = ["cc", "-O2", "-o", str(out), str(SOURCE), "-lssl", "-lcrypto"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if "openssl/" in done.stderr and "No such file" in done.stderr:
        pytest.skip("needs OpenSSL's headers (libssl-dev)")
    assert not done.returncode, done.stderr
    return out


def test_stacks_are_switched_within_the_library(tmp_path: Path, ports: Ports) -> None:
    make_certificates(tmp_path)
    port = ports.take()
    with (tmp_path / "access.log").open("wb") as log:
        process = subprocess.Popen([str(built(tmp_path)), str(port), str(tmp_path / "server.pem")], stdout=log)
    try:
        assert wait_until(lambda: answers(port), 10)
        server = HttpsServer(port, tmp_path, process)
        with trace("--tls", "auto", "--port", str(port)) as tracer:
            ask_many(port, server.ca, CONNECTIONS, EACH)
            logged = server.logged(CONNECTIONS * EACH)
            rows = tracer.rows(2 * CONNECTIONS * EACH, timeout=20)
            ended = tracer.stop()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(10)
    assert len(logged) == CONNECTIONS * EACH
    assert seen(rows, "server") == logged
    assert seen(rows, "client") == logged
    assert {row["attributes"]["network.peer.address"] for row in rows} == {"127.0.0.1"}
    assert_nothing_lost(ended.ledger, 2 * CONNECTIONS * EACH)
