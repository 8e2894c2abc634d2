"""The command line: views, signals, filters, errors; no traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peers.clients import run
from peers.plan import Call
from peers.servers import Server, start

from .collector import free_port
from .tracer import trace

pytestmark = pytest.mark.root
RINGSPAN = [sys.executable, "-m", "ringspan.cli"]


def begin(*args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a trace; returns once it is ready."""
    process = subprocess.Popen(
        [*RINGSPAN, "trace", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("ready"):
            return process
    raise AssertionError("not ready")


def end(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err, time.monotonic() - began


def get(server: Server, path: str, count: int) -> None:
    run("curl-reuse", server.url, [Call("GET", path)] * count)


def test_lines_count_each_request_once_most_used_first() -> None:
    refused = free_port()
    with start("http.server") as server:
        tracer = begin("--show", "lines", "--interval", "60", "--port", str(server.port), "--port", str(refused))
        get(server, "/api/users", 5)
        get(server, "/missing/x", 12)
        for _ in range(3):
            with socket.socket() as client:
                client.connect_ex(("127.0.0.1", refused))
        time.sleep(0.3)
        out, err, seconds = end(tracer)
    assert out.splitlines() == [
        "Endpoint: /missing/x, Status Code: 404, Count: 12",
        "Endpoint: /api/users, Status Code: 200, Count: 5",
        "Endpoint: refused, Status Code: 0, Count: 3",
    ]
    assert seconds < 2
    assert "exchanges: seen 34 = recorded 34" in err


def test_table_shows_endpoints_rate_and_ledger() -> None:
    with start("http.server") as server:
        tracer = begin(
            "--show", "table", "--interval", "60", "--port", str(server.port), env=os.environ | {"COLUMNS": "120"}
        )
        get(server, "/api/users", 4)
        time.sleep(0.3)
        out, _, _ = end(tracer)
    row = next(line for line in out.splitlines() if "/api/users" in line)
    assert re.match(r"/api/users\s+GET\s+200\s+4\s+0(\s+[\d.]+(us|ms|s)){3}\s+python3", row)
    assert "requests/s" in out
    assert "ledger exchanges" in out


def test_without_an_exporter_one_line_says_so() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [*RINGSPAN, "trace", "--port", "1", "--duration", "0.3"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert len(re.findall(r"nothing is exported", done.stderr)) == 1


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_interrupt_ends_within_two_seconds_with_the_collector_down(protocol: str) -> None:
    with start("http.server") as server:
        tracer = begin(
            "--show",
            "none",
            "--port",
            str(server.port),
            "--otlp",
            f"http://127.0.0.1:{free_port()}",
            "--protocol",
            protocol,
        )
        get(server, "/api/users", 100)
        time.sleep(1)
        _, err, seconds = end(tracer)
    assert seconds < 2
    spans = next(line for line in err.splitlines() if "ledger spans" in line)
    assert "acknowledged 0" in spans
    assert "failed" in spans
    assert "off by" not in err


def test_a_hanging_collector_does_not_delay_the_end() -> None:
    with socket.socket() as hole, start("http.server") as server:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        tracer = begin(
            "--show", "none", "--port", str(server.port), "--otlp", f"http://127.0.0.1:{hole.getsockname()[1]}"
        )
        get(server, "/api/users", 10)
        time.sleep(0.5)
        _, err, seconds = end(tracer)
    assert seconds < 2
    assert "off by" not in err


def test_filters_by_pid_role_and_executable() -> None:
    with start("http.server") as server:
        for flags, kinds in (
            (["--pid", str(server.pids[0])], {"server"}),
            (["--port", str(server.port), "--role", "client"], {"client"}),
            (["--port", str(server.port), "--role", "server"], {"server"}),
            (["--port", str(server.port), "--exe", "curl"], {"client"}),
            (["--port", str(server.port), "--exe", "*/python*"], {"server"}),
        ):
            with trace(*flags) as tracer:
                run("curl", server.url, [Call("GET", "/api/users")] * 3)
                rows = tracer.rows(expect=3)
                ended = tracer.stop()
            assert [row["kind"] for row in rows] == sorted(kinds) * 3, flags
            assert "off by" not in ended.ledger


def test_only_executables_that_are_not_wanted_are_seen(tmp_path: Path) -> None:
    """All records of a batch are taken out of it: nothing is left to count or send."""
    with start("http.server") as server:
        flags = ["--port", str(server.port), "--role", "client", "--exe", "/no/such", "--show", "none"]
        tracer = begin(*flags, "--otlp", f"http://127.0.0.1:{free_port()}")
        program = tmp_path / "unwanted"
        program.write_bytes(Path(sys.executable).resolve().read_bytes())
        program.chmod(0o755)
        script = f"import time, urllib.request; urllib.request.urlopen('{server.url}/api/users').read(); time.sleep(1)"
        subprocess.run([program, "-S", "-c", script], check=True, env=os.environ | {"PYTHONHOME": sys.base_prefix})
        _, err, _ = end(tracer)
    assert "ledger exchanges: seen 1 = recorded 0 + in flight 0 + filtered 1" in err


def test_an_executable_that_appears_later_is_judged_then(tmp_path: Path) -> None:
    """Its first requests pass the kernel unjudged; only what was asked for is shown."""
    with start("http.server") as server, trace("--port", str(server.port), "--exe", str(tmp_path / "wanted")) as tracer:
        for name in ("wanted", "other"):
            program = tmp_path / name
            program.write_bytes(Path(sys.executable).resolve().read_bytes())
            program.chmod(0o755)
            code = f"import http.client,time\nfor _ in range(3):\n c=http.client.HTTPConnection('127.0.0.1',{server.port});c.request('GET','/{name}');c.getresponse().read();time.sleep(.3)"
            home = str(Path(sys.base_prefix))
            subprocess.run([str(program), "-c", code], check=True, env=os.environ | {"PYTHONHOME": home})
        rows = tracer.rows(expect=3)
        ended = tracer.stop()
    assert [row["attributes"]["url.full"].rsplit("/", 1)[1] for row in rows] == ["wanted"] * 3
    assert "off by" not in ended.ledger


def test_ready_is_told_to_systemd(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        tracer = begin("--show", "none", "--port", "1", env=os.environ | {"NOTIFY_SOCKET": path})
        channel.settimeout(5)
        assert channel.recv(100) == b"READY=1"
        end(tracer)


def test_a_closed_pipe_ends_quietly() -> None:
    with start("http.server") as server:
        command = f"{' '.join(RINGSPAN)} trace --show json --port {server.port} | head -n 1"
        process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        while not process.stderr.readline().startswith("ready"):
            pass
        get(server, "/api/users", 2)
        time.sleep(0.3)
        get(server, "/api/users", 20)
        out, err = process.communicate(timeout=10)
    assert json.loads(out)["kind"] in ("client", "server")
    assert "Traceback" not in err
    assert "off by" not in err
    assert re.search(r"rows: recorded \d+ = written \d+ \+ lost \(output not read\) \d+", err)


def test_a_second_interrupt_ends_at_once() -> None:
    tracer = begin("--show", "none", "--port", "1")
    tracer.send_signal(signal.SIGSTOP)
    tracer.send_signal(signal.SIGINT)
    tracer.send_signal(signal.SIGTERM)
    tracer.send_signal(signal.SIGCONT)
    tracer.communicate(timeout=5)
    assert tracer.returncode in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_without_root_it_says_so() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", *RINGSPAN, "trace"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 126 or "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(f"this checkout is out of reach of an unprivileged user: {done.stderr.strip()[-80:]}")
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "root" in done.stderr
