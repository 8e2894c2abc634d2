"""Unix sockets whose end no call tells: those that live go on whatever goes beside them, those that are gone are found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .tracer import SLOWNESS, trace

pytestmark = pytest.mark.root
# Held while two processes open and close sockets all the time, then answered.
HELD = 1200
HOLDS = f"""
import os, resource, signal, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(16)
print("listening", flush=True)
sys.stdin.readline()
def churn():
    while True:
        for one in [end for _ in range(200) for end in socket.socketpair()]:
            one.close()
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        churn()
    children.append(pid)
pairs = []
for _ in range({HELD}):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    server, _ = listener.accept()
    client.sendall(b"GET /held HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    server.recv(4096)
    pairs.append((client, server))
time.sleep(6)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
good = 0
for client, server in pairs:
    server.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    good += client.recv(4096).startswith(b"HTTP/1.1 200")
print(good, flush=True)
"""
# Sends itself a request; then what it becomes closes both ends, and leaves the network namespace, which no process shows then.
BECOMES = """
import os, socket, sys
print("begun", flush=True)
sys.stdin.readline()
client, server = socket.socketpair()
client.sendall(b"GET /left HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
server.recv(4096)
os.execvp("nsenter", ["nsenter", "--net=" + sys.argv[1], "sleep", "60"])
"""


def _begin(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["unshare", "--net", sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_living_exchanges_go_on_while_other_sockets_come_and_go(tmp_path: Path) -> None:
    process = _begin(HOLDS, tmp_path / "s")
    assert process.stdin
    assert process.stdout
    try:
        with trace("--pid", str(process.pid)) as tracer:
            assert process.stdout.readline() == "listening\n"
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == f"{HELD}\n"
            tracer.rows(2 * HELD, timeout=10 * SLOWNESS)
            ended = tracer.stop()
            rows = tracer.all_rows()
    finally:
        process.kill()
        process.wait()
    ends = Counter((row["kind"], row["attributes"].get("http.response.status_code")) for row in rows)
    assert ends == {("server", 200): HELD, ("client", 200): HELD}
    assert f"seen {2 * HELD} = recorded {2 * HELD} + in flight 0 + filtered 0" in ended.ledger


@pytest.mark.parametrize("flags", [[], ["--user", "nobody"]])
def test_sockets_closed_by_exec_are_found_in_a_network_namespace_that_no_process_shows(flags: list[str]) -> None:
    process = _begin(BECOMES, Path(f"/proc/{os.getpid()}/ns/net"))
    assert process.stdin
    assert process.stdout
    try:
        with trace("--pid", str(process.pid), *flags) as tracer:
            assert process.stdout.readline() == "begun\n"
            print(file=process.stdin, flush=True)
            rows = tracer.rows(2)
    finally:
        process.kill()
        process.wait()
    ends = {row["kind"]: row["attributes"]["error.type"] for row in rows}
    assert ends == {"server": "connection_closed", "client": "client_closed"}
    assert len(rows) == len(ends)
    assert max(row["duration_ns"] for row in rows) < 1_500_000_000 * SLOWNESS
