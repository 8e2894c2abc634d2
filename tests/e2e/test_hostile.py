"""Odd surroundings: a hostile working folder, closed or stalled output, signals at bad times, terminals, own exports."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peers.clients import run
from peers.plan import Call
from peers.servers import start

from .collector import free_port
from .tracer import SLOWNESS, trace

pytestmark = pytest.mark.root
RINGSPAN = [str(Path(sys.executable).parent / "ringspan"), "trace"]


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers everything; closes after each export."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        self.do_GET()

    def log_message(self, *_args: object) -> None:
        """Says nothing."""


class DualStack(http.server.ThreadingHTTPServer):
    """Listens on IPv6 for both families, as Go's servers do."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_the_working_folder_is_not_searched_for_modules(tmp_path: Path) -> None:
    for name in ("bcc", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    done = subprocess.run(
        [*RINGSPAN, "--duration", "0.3", "--port", "1", "--show", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_own_exports_to_a_dual_stack_collector_are_left_out() -> None:
    with serving(DualStack(("::", 0), Answering)) as collector, start("http.server") as server:
        flags = ["--port", str(collector), "--port", str(server.port), "--otlp", f"http://127.0.0.1:{collector}"]
        with trace(*flags, "--protocol", "http/protobuf") as tracer:
            for _ in range(3):
                run("curl", server.url, [Call("GET", "/api/users")])
                time.sleep(0.4)
            rows = tracer.rows(expect=6)
    assert {row["attributes"]["server.port"] for row in rows} == {server.port}
    assert len(rows) == 6


@pytest.mark.parametrize("after", [0.15, 0.4, 0.8])
def test_an_interrupt_while_starting_ends_quietly(after: float) -> None:
    process = subprocess.Popen([*RINGSPAN, "--port", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert "Traceback" not in err or "ringspan" not in err.split("Traceback")[1].split("\n")[1]
    of_python = "init_import_site" in err  # which had not begun with any of ringspan
    assert process.returncode in (0, 130, -signal.SIGINT) or (of_python and process.returncode == 1)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">/dev/full"])
def test_closed_and_full_streams(closed: str) -> None:
    command = f"{' '.join(RINGSPAN)} --show json --port 1 --duration 0.5 {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_cannot_be_written_has_a_status_that_help_names() -> None:
    command = f"{sys.executable} -m ringspan.cli"
    done = subprocess.run(["bash", "-c", f"{command} config >/dev/full"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split(";")[0]) == (1, "ringspan: cannot write: No space left on device")
    told = subprocess.run(["bash", "-c", f"{command} trace --help"], capture_output=True, text=True, check=True)
    assert "1 for anything else that failed, such as an output that cannot be written" in " ".join(told.stdout.split())


def test_a_reader_that_stalls_delays_neither_the_drain_nor_the_end() -> None:
    with start("http.server") as server:
        process = subprocess.Popen(
            [*RINGSPAN, "--show", "json", "--port", str(server.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        while not process.stderr.readline().startswith("ready"):
            pass
        run("curl-reuse", server.url, [Call("GET", "/api/users")] * 300)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
        process.wait(5)
        assert time.monotonic() - began < 2
        process.stdout.close()
    assert process.returncode == 0
    assert "exchanges: seen 600 = recorded 600" in err
    assert "lost (output not read)" in err
    assert "off by" not in err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--otlp", "http://[bad"], "http://[bad"),
        (["--role", "boss"], "--role"),
        (["--nonsense"], "--nonsense"),
        (["--port", *" --port ".join(str(n) for n in range(1, 1200)).split()], "port"),
    ],
)
def test_wrong_flags_are_named(flags: list[str], said: str) -> None:
    done = subprocess.run([*RINGSPAN, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_variables_are_a_users_mistake() -> None:
    environment = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    }
    done = subprocess.run([*RINGSPAN, "--port", "1"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in done.stderr


def test_escapes_do_not_reach_a_terminal() -> None:
    with start("http.server") as server:
        process = subprocess.Popen(
            [*RINGSPAN, "--show", "lines", "--interval", "60", "--port", str(server.port), "--otlp", f"http://127.0.0.1:{free_port()}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr
        while not process.stderr.readline().startswith(b"ready"):
            pass
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(
                b"GET /c1\xc2\x9b31m\xe2\x80\xae HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: \x1b[31mEVIL\x07\r\n\r\n"
            )
            while client.recv(4096):
                pass
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    assert b"\\x9b31m\\u202e" in out
    assert all(code >= 0x20 or code == 0x0A for code in out + err)


def test_after_a_call_that_could_not_be_followed_the_next_request_is_seen() -> None:
    """What one call held beyond the bounds is lost and counted; the exchange after it is not."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    chunks = b"".join(b"1\r\nx\r\n" for _ in range(600)) + b"0\r\n\r\n"

    def many(self: Answering) -> None:
        if self.path == "/many":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        else:
            Answering.do_GET(self)

    server.RequestHandlerClass = type("Many", (Answering,), {"do_GET": many})
    with serving(server) as port, trace("--port", str(port), "--role", "server") as tracer:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for path in ("/many", "/next", "/last"):
            connection.request("GET", path)
            connection.getresponse().read()
        rows = tracer.rows(expect=2)
        ended = tracer.stop()
    assert [row["attributes"]["url.path"] for row in rows] == ["/next", "/last"]
    assert "lost (desync) 1" in ended.ledger
    assert "off by" not in ended.ledger


def test_an_end_comes_in_time_whatever_is_left_to_read() -> None:
    """What a stranger's targets, each of which takes milliseconds, leave in the ring at the end is lost and counted."""
    intricate, count = "a:/b@" * 120, 4000
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    with serving(server) as port, trace("--port", str(port)) as tracer:
        os.kill(tracer.pid, signal.SIGSTOP)
        client = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(count):
            client.request("GET", f"/{number}{intricate}")
            client.getresponse().read()
        os.kill(tracer.pid, signal.SIGCONT)
        ended = tracer.stop()
    assert ended.seconds < 6 * SLOWNESS
    told = re.search(r"exchanges: seen (\d+) = recorded (\d+) .*", ended.ledger)
    assert told, ended.ledger
    left = re.search(r"lost \(no time left at the end\) (\d+)$", told[0])  # none on a very fast machine
    lost = int(left[1]) if left else 0
    assert (int(told[1]), int(told[2]) + lost) == (2 * count, 2 * count)
    assert int(told[2])
