"""SIGHUP: settings are read again in the middle of traffic, and no record is lost by it."""

from __future__ import annotations

import http.client
import http.server
import os
import pty
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from peers.process import wait_until

from .test_hostile import Answering, serving
from .tracer import SOURCES, Tracer, trace

pytestmark = pytest.mark.root
RELOADS = 20


class Caller(threading.Thread):
    """Calls as fast as it can until it is told to end."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.ended, self.calls = port, threading.Event(), 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while not self.ended.is_set():
            connection.request("GET", f"/n/{self.calls}")
            connection.getresponse().read()
            self.calls += 1


def test_no_record_is_lost_by_reading_settings_again(tmp_path: Path) -> None:
    config = tmp_path / "ringspan.yaml"
    config.write_text("interval: 1\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    with serving(server) as port, trace("--port", str(port), "--role", "server", "--config", str(config)) as tracer:
        caller = Caller(port)
        caller.start()
        for i in range(RELOADS):
            time.sleep(0.05)
            config.write_text(f"interval: {2 + i}\nconnections: {100 + i}\n" if i % 5 else "intervall: 7\n")
            os.kill(tracer.pid, signal.SIGHUP)
        time.sleep(0.2)
        caller.ended.set()
        caller.join()
        rows = tracer.rows(expect=caller.calls)
        ended = tracer.stop()
    paths = [row["attributes"]["url.path"] for row in rows]
    assert paths == [f"/n/{i}" for i in range(caller.calls)]
    assert f" = recorded {caller.calls} + in flight 0 + " in ended.ledger
    assert "off by" not in ended.ledger
    assert "settings read again: changed interval" in ended.ledger
    assert "only a new start changes connections" in ended.ledger
    assert "settings are kept as they were: " in ended.ledger
    assert "did you mean 'interval'?" in ended.ledger


def test_a_file_that_is_empty_or_a_pipe_changes_nothing(tmp_path: Path) -> None:
    """A pipe has been read by then, and an editor may empty a file before it writes: all would be as if not said."""
    config, pipe = tmp_path / "ringspan.yaml", tmp_path / "pipe"
    config.write_text("interval: 1\nredact_keys: [shoe]\n")
    os.mkfifo(pipe)

    def told(tracer: Tracer, words: str, count: int) -> None:
        os.kill(tracer.pid, signal.SIGHUP)
        assert wait_until(lambda: sum(words in line for line in tracer.errors()) == count, 10), tracer.errors()

    with trace("--port", "1", "--config", str(config)) as tracer:
        config.write_text("")
        told(tracer, "settings are kept as they were", 1)
        pipe.rename(config)
        told(tracer, "settings are kept as they were", 2)
        config.unlink()
        told(tracer, "settings are kept as they were", 3)
        config.write_text("interval: 3\nredact_keys: [shoe]\n")
        told(tracer, "settings read again: changed interval", 1)
        assert not any("redact_keys" in line for line in tracer.errors())


def test_a_long_document_is_read_beside_the_drain(tmp_path: Path) -> None:
    """What takes seconds to read delays neither records nor the end."""
    config, document = tmp_path / "ringspan.yaml", tmp_path / "api.yaml"
    config.write_text("interval: 1\n")
    paths = "".join(
        f"  /a{i}/{{id}}:\n" + "".join(f"    x{k}: {{a: [1, 2, 3]}}\n" for k in range(45)) for i in range(4900)
    )
    document.write_text(f"openapi: 3.0.0\npaths:\n{paths}")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    with serving(server) as port, trace("--port", str(port), "--role", "server", "--config", str(config)) as tracer:
        caller = Caller(port)
        caller.start()
        config.write_text(f"interval: 2\nroutes: [{{openapi: {document}}}]\n")
        os.kill(tracer.pid, signal.SIGHUP)
        longest, last = 0.0, time.monotonic()
        while not any("settings read again" in line for line in tracer.errors()):
            count = tracer.count()
            tracer.wait_for_rows(count + 1, 10)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        caller.ended.set()
        caller.join()
        tracer.rows(expect=caller.calls)
        ended = tracer.stop()
    assert longest < 2
    assert "changed interval, routes" in ended.ledger
    assert f" = recorded {caller.calls} + in flight 0 + " in ended.ledger


def test_a_terminal_that_goes_ends_the_run(tmp_path: Path) -> None:
    """SIGHUP means both: of a terminal that is no more, it asks for an end."""
    config = tmp_path / "ringspan.yaml"
    config.write_text("port: 1\nshow: lines\n")
    command = [sys.executable, "-m", "ringspan.cli", "trace", "--config", str(config)]
    child, terminal = pty.fork()
    if not child:
        os.environ["PYTHONPATH"] = str(SOURCES)
        os.execv(sys.executable, command)
    said, ends = b"", time.monotonic() + 60
    while b"ready:" not in said and time.monotonic() < ends:
        said += os.read(terminal, 4096)
    os.kill(child, signal.SIGHUP)
    while b"settings read again" not in said and time.monotonic() < ends:
        said += os.read(terminal, 4096)
    os.close(terminal)
    done = 0
    while not done and time.monotonic() < ends:
        done, _ = os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done == child
