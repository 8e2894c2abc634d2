"""The process that attaches to TLS libraries is late, or ends: that is said, and what is said is so."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from .kernel_objects import children, eventually
from .test_leftovers import ATTACHER
from .tls_peers import curl, https_server
from .tracer import How, Tracer, trace

if TYPE_CHECKING:
    from pathlib import Path

    from .stage import Ports

pytestmark = pytest.mark.root
LATE = "WARNING ringspan.tls.start: TLS is not followed yet"
NOW = "WARNING ringspan.tls.start: TLS is followed from now on"
ENDED = "ERROR ringspan.tls.start: TLS is not followed any more: the process that attaches to TLS libraries has ended by signal 9 (Killed)"


def attacher_of(pid: int) -> int:
    """Its process, as soon as there is one."""
    end = time.monotonic() + 10
    while not (found := children(pid, ATTACHER)) and time.monotonic() < end:
        time.sleep(0.005)
    return found[0]


def test_one_that_is_late_is_not_waited_for(tmp_path: Path, ports: Ports) -> None:
    with https_server("nginx", ports.take(), tmp_path) as server:
        tracer = Tracer("--tls", "auto", "--port", str(server.port), run=How())
        try:
            attacher = attacher_of(tracer.pid)
            os.kill(attacher, signal.SIGSTOP)
            tracer.wait_ready()
            assert [line for line in tracer.errors() if line.startswith(LATE)]
            curl(server, ["/small?unseen"])
            os.kill(attacher, signal.SIGCONT)
            assert eventually(lambda: f"{NOW}\n" in tracer.errors())
            curl(server, ["/small?seen"])
            rows = tracer.rows(2)
            ledger = tracer.stop().ledger
        finally:
            tracer.kill()
    assert [row["attributes"]["url.path"] for row in rows if row["kind"] == "server"] == ["/small"]
    assert len(rows) == 2
    assert "not followed 2 (sessions in memory: 0)\n" in ledger


def test_one_that_is_killed(ports: Ports) -> None:
    with trace("--tls", "auto", "--port", str(ports.take())) as tracer:
        os.kill(attacher_of(tracer.pid), signal.SIGKILL)
        assert eventually(lambda: f"{ENDED}\n" in tracer.errors())
        assert tracer.stop().status == 0
        assert tracer.errors().count(f"{ENDED}\n") == 1
