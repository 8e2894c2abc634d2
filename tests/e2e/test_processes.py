"""Processes that are gone: who they were, and when what they left unfinished ended."""

from __future__ import annotations

import os
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

from .tracer import trace

pytestmark = pytest.mark.root
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SOON_NS = 100_000_000
# A server that reads one request and then goes, as it is told, without an answer.
GOES = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
connection.recv(4096)
{how}
"""
WAYS = {
    "exit": "os._exit(0)",
    "killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "close_range": "import ctypes, time; ctypes.CDLL(None).syscall(436, connection.fileno(), connection.fileno(), 0); time.sleep(3)",
    "many descriptors": "spare = [os.open('/dev/null', os.O_RDONLY) for _ in range(300)]; os.dup2(connection.fileno(), 400); os.close(connection.fileno()); os._exit(0)",
}


@contextmanager
def answering(count: int) -> Iterator[int]:
    """Answers so many connections, one request each."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        for _ in range(count):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ANSWER)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    thread.join(10)
    listener.close()


def test_short_lived_processes_have_their_own_names() -> None:
    names = {f"/{i}": f"shop-{i}" for i in range(20)}
    with answering(len(names)) as port, trace("--port", str(port), "--role", "client") as tracer:
        for path, name in names.items():
            environment = os.environ | {"OTEL_SERVICE_NAME": name}
            subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}{path}"], env=environment, check=True)
        rows = tracer.rows(len(names))
    found = {row["attributes"]["url.full"].partition(str(port))[2]: row["resource"]["service.name"] for row in rows}
    assert found == names


def test_a_process_in_a_pid_namespace_has_both_its_numbers() -> None:
    """Its first process is 1 there, and what it begins is 2: of an exchange, and of a connect that fails."""
    code = "import os, subprocess; os._exit(subprocess.call({words!r}))"
    with answering(2) as port, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = [port, closed.getsockname()[1]]
        words = [["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{one}/"] for one in ports]
        with trace("--role", "client", *(word for one in ports for word in ("--port", str(one)))) as tracer:
            in_python = [[sys.executable, "-c", code.format(words=one)] for one in words]
            for within in (words[0], in_python[0], in_python[1]):
                subprocess.run(["unshare", "--pid", "--fork", *within], check=False)
            subprocess.run(words[1], check=False)
            rows = tracer.rows(4)
    numbers = [(row["attributes"]["process.pid"], row["attributes"].get("process.vpid")) for row in rows]
    assert [inner for _, inner in numbers] == [1, 2, 2, None]
    assert all(outer > 2 for outer, _ in numbers)


def test_a_short_lived_script_is_named_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "nightly_report.py"
    script.write_text(
        "import os, socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "s.sendall(b'GET /r HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'); s.recv(4096); os._exit(0)\n"
    )
    with answering(1) as port, trace("--port", str(port), "--role", "client") as tracer:
        subprocess.run([sys.executable, "-S", str(script), str(port)], check=True)
        rows = tracer.rows(1)
    assert [row["resource"]["service.name"] for row in rows] == ["nightly_report"]


@pytest.mark.parametrize("how", WAYS)
def test_a_unix_server_that_goes_ends_its_exchange_at_once(tmp_path: Path, how: str) -> None:
    path = str(tmp_path / "s")
    server = subprocess.Popen([sys.executable, "-c", GOES.format(how=WAYS[how]), path], stdout=subprocess.PIPE)
    assert server.stdout
    try:
        with trace("--pid", str(server.pid)) as tracer:
            assert server.stdout.readline() == b"listening\n"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
                client.recv(1)
                ended = time.monotonic()
                rows = tracer.rows(1, timeout=1.0)
                assert time.monotonic() - ended < 1  # and not by the sweep
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    (row,) = rows
    assert (row["kind"], row["attributes"]["error.type"], row["attributes"]["url.path"]) == (
        "server",
        "connection_closed",
        "/gone",
    )
    assert row["duration_ns"] < SOON_NS


def test_a_unix_connection_shared_with_a_child_ends_with_the_last_of_them(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    how = "pid = os.fork()\nif pid == 0:\n    import time; time.sleep(0.4); connection.sendall(b'HTTP/1.1 204 No Content\\r\\n\\r\\n'); os._exit(0)\nos._exit(0)"
    server = subprocess.Popen([sys.executable, "-c", GOES.format(how=how), path], stdout=subprocess.PIPE)
    assert server.stdout
    with trace("--exe", Path(sys.executable).resolve().name) as tracer:
        assert server.stdout.readline() == b"listening\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 204")
            rows = tracer.rows(
                1, where=lambda row: row["kind"] == "server" and row["attributes"]["url.path"] == "/kept"
            )
    server.wait()
    assert [row["attributes"]["http.response.status_code"] for row in rows] == [204]
