"""What is done with sessions beside requests: writes of nothing, looks ahead, second references, forks, very many of them."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from peers import build
from peers.process import wait_until

from .kernel_objects import children
from .tls_peers import (
    SCALE,
    answers,
    assert_nothing_lost,
    curl,
    curl_urls,
    https_server,
    make_certificates,
    run_python,
    seen,
)
from .tracer import trace

if TYPE_CHECKING:
    from pathlib import Path

    from .stage import Ports
    from .tracer import Row

pytestmark = pytest.mark.root
if not shutil.which("nginx"):
    pytest.skip("needs nginx", allow_module_level=True)
PATHS = tuple(f"/small?{number}" for number in range(1, 3 * SCALE + 1))
EXPECTED = sorted(("GET", path, 200) for path in PATHS)


def program() -> str:
    try:
        return str(build.ensure("tls-openssl"))
    except build.PeerUnavailable as error:
        pytest.skip(str(error))


def is_exchange(row: Row) -> bool:
    return bool(row["name"] == "GET")


def is_free(port: int) -> bool:
    """Whether none listens, asked without a connection."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("how", ["plain", "ex", "zero", "shared", "peek", "peek,ex", "zero,ex,shared"])
def test_a_client(tmp_path: Path, ports: Ports, how: str) -> None:
    """Whole exchanges, whatever is done between their calls."""
    with (
        https_server("nginx", ports.take(), tmp_path) as server,
        trace("--tls", "auto", "--port", str(server.port)) as tracer,
    ):
        done = subprocess.run([program(), "client", str(server.port), how, *PATHS], capture_output=True, check=True)
        rows = tracer.rows(2 * len(PATHS))
        ledger = tracer.stop().ledger
    assert done.stdout == b"200\n" * len(PATHS)
    assert seen(rows, "client") == seen(rows, "server") == EXPECTED
    assert_nothing_lost(ledger, 2 * len(PATHS))


def test_a_client_that_reads_by_what_is_not_followed(tmp_path: Path, ports: Ports) -> None:
    """Of its answers nothing is known, so nothing is said of its requests: they were not left unanswered."""
    with (
        https_server("nginx", ports.take(), tmp_path) as server,
        trace("--tls", "auto", "--port", str(server.port)) as tracer,
    ):
        words = [program(), "client", str(server.port), "bio,half", *PATHS]
        done = subprocess.run(words, capture_output=True, check=True)
        rows = tracer.rows(3)
        rows += tracer.stop().rows
    assert done.stdout == b"200\n" * len(PATHS)
    assert seen(rows, "client") == []
    assert seen(rows, "server") == EXPECTED


@pytest.mark.parametrize(
    "how", ["plain", "ex", "zero", "shared", "peek", "peek,ex", "fork", "fork,shared", "fork,peek"]
)
def test_a_server(tmp_path: Path, ports: Ports, how: str) -> None:
    """As of a client; a child that goes on with a session of its parent's goes on with what is known of it."""
    port = ports.take()
    make_certificates(tmp_path)
    command = [program(), "server", str(port), str(tmp_path / "server.pem"), how]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        assert wait_until(lambda: answers(port), 10)
        with trace("--tls", "auto", "--port", str(port)) as tracer:
            for _ in range(2):
                curl_urls(tmp_path, port, PATHS)
            rows = tracer.rows(4 * len(PATHS), where=is_exchange)
            ledger = tracer.stop().ledger
        server.kill()
    assert seen(rows, "client") == seen(rows, "server") == sorted(EXPECTED * 2)
    assert_nothing_lost(ledger, 4 * len(PATHS))


RESUMED = """
import socket, ssl, sys
port, ca, version, *paths = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
session = None
for path in paths:
    connection = socket.create_connection(("127.0.0.1", int(port)))
    with context.wrap_socket(connection, server_hostname="localhost", session=session) as tls:
        tls.sendall(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n".encode())
        while tls.recv(65536):
            pass
        print(tls.session_reused)
        session = tls.session
"""


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_sessions_that_are_resumed(tmp_path: Path, ports: Ports, version: str) -> None:
    with (
        https_server("nginx", ports.take(), tmp_path, "ssl_session_cache shared:one:1m;") as server,
        trace("--tls", "auto", "--port", str(server.port)) as tracer,
    ):
        said = run_python(RESUMED, str(server.port), server.ca, version, *PATHS)
        rows = tracer.rows(2 * len(PATHS))
    assert said.split() == ["False"] + ["True"] * (len(PATHS) - 1)
    assert seen(rows, "client") == seen(rows, "server") == server.logged(len(PATHS)) == EXPECTED


HOG = """
import ssl, sys
print("ready", flush=True)
sys.stdin.readline()
context, held = ssl.create_default_context(), []
for number in range(int(sys.argv[1])):
    held.append(context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost"))
    try:
        held[-1].do_handshake()
    except ssl.SSLWantReadError:
        pass
print("held", flush=True)
sys.stdin.readline()
"""


def test_one_process_with_very_many_sessions(tmp_path: Path, ports: Ports) -> None:
    """Others' are followed beside them, at once and after the idle ones have made room; what is not is counted."""
    config = tmp_path / "config.yaml"
    config.write_text("connections: 512\n")
    (tmp_path / "place").mkdir()
    with (
        https_server("nginx", ports.take(), tmp_path / "place") as server,
        subprocess.Popen([sys.executable, "-c", HOG, "3000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hog,
    ):
        assert hog.stdin
        assert hog.stdout
        assert hog.stdout.readline() == b"ready\n"
        pids = [server.process.pid, *children(server.process.pid), hog.pid]
        asked = [word for pid in pids for word in ("--pid", str(pid))]
        with trace("--tls", "auto", "--config", str(config), *asked) as tracer:
            hog.stdin.write(b"\n")
            hog.stdin.flush()
            assert hog.stdout.readline() == b"held\n"
            for turn in range(3):
                curl(server, [f"/small?{turn}.{n}" for n in range(5)])
            rows = tracer.rows(15)
            ledger = tracer.stop().ledger
        hog.kill()
    assert seen(rows, "server") == sorted(("GET", f"/small?{turn}.{n}", 200) for turn in range(3) for n in range(5))
    assert "one process has very many" in ledger


IN_MEMORY = """
import asyncio, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3])
async def answer(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        writer.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
async def swallow(reader, writer):
    await reader.read(100)
    writer.close()
async def main():
    await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), ssl=context)
    await asyncio.start_server(swallow, "127.0.0.1", int(sys.argv[2]))
    await asyncio.sleep(600)
asyncio.run(main())
"""
HELLO = b"\x16\x03\x01\x00\x05hello"


def test_sessions_in_memory_hide_no_connection_that_is_not_followed(tmp_path: Path, ports: Ports) -> None:
    """Those of older connections, which were not seen to begin, are not counted; nor are looks whether one listens."""
    port, other = ports.take(), ports.take()
    make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    words = [sys.executable, "-c", IN_MEMORY, str(port), str(other), str(tmp_path / "server.pem")]
    with subprocess.Popen(words) as server, ExitStack() as held:
        held.callback(server.kill)
        assert wait_until(lambda: answers(port) and answers(other), 10)

        def begin() -> ssl.SSLSocket:
            plain = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            return held.enter_context(context.wrap_socket(plain, server_hostname="localhost"))

        def ask(session: ssl.SSLSocket) -> None:
            session.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert session.recv(100).startswith(b"HTTP/1.1 204")

        old = [begin() for _ in range(3)]
        with trace("--tls", "auto", "--pid", str(server.pid)) as tracer:
            for session in [*old, begin(), *old]:
                ask(session)
            for _ in range(3):
                assert answers(port)
                with socket.create_connection(("127.0.0.1", other)) as stranger:
                    stranger.sendall(HELLO)
                    assert stranger.recv(100) == b""
            ledger = tracer.stop().ledger
    account = next(line for line in ledger.splitlines() if "TLS connections" in line)
    assert account.endswith(
        "seen 4 = shown 0 + without plain text 0 + in memory or not followed 4 (sessions in memory: 1)"
    )


# A server whose sessions are in memory, and whose handshakes ask a vault by a session of their own, in memory or not.
ASKS_A_VAULT = """
import socket, ssl, sys, time
port, vault, folder, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
class InMemory:
    def __init__(self, connection, context, **more):
        self.connection, self.into, self.out = connection, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.into, self.out, **more)
    def flush(self):
        if self.out.pending:
            self.connection.sendall(self.out.read())
    def do(self, function, *arguments):
        while True:
            try:
                done = getattr(self.session, function)(*arguments)
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                self.into.write(got) if (got := self.connection.recv(65536)) else self.into.write_eof()
    def write(self, text):
        return self.do("write", text)
    def read(self, size):
        return self.do("read", size)
def begin():
    connection = socket.create_connection(("127.0.0.1", vault))
    if how == "socket":
        return asking.wrap_socket(connection, server_hostname="localhost")
    begun = InMemory(connection, asking, server_hostname="localhost")
    begun.do("do_handshake")
    return begun
def ask(*_):
    asked = begin() if how == "anew" else held
    asked.write(b"GET /vault HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    asked.read(1000)
asking = ssl.create_default_context(cafile=folder + "/ca.pem")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/server.pem")
context.sni_callback = ask
print("ready", flush=True)
sys.stdin.readline()
with socket.create_server(("127.0.0.1", port)) as listening:
    while True:
        held = begin()
        accepted = InMemory(listening.accept()[0], context, server_side=True)
        accepted.into.write(accepted.connection.recv(65536))
        accepted.do("do_handshake")
        accepted.read(65536)
        getattr(held, "connection", held).close()
        time.sleep(0.2)
        accepted.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        accepted.connection.close()
"""
ANSWERS = """
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/server.pem")
def answer(connection):
    with context.wrap_socket(connection, server_side=True) as session:
        while session.recv(65536):
            session.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    while True:
        threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()
"""


@pytest.mark.parametrize("how", ["socket", "memory", "anew"])
def test_a_callback_that_uses_another_session(tmp_path: Path, ports: Ports, how: str) -> None:
    """Who is asked within a handshake is not its peer, and the end of that connection not its end."""
    port, vault = ports.take(), ports.take()
    make_certificates(tmp_path)
    words = [sys.executable, "-c", ASKS_A_VAULT, str(port), str(vault), str(tmp_path), how]
    with (
        subprocess.Popen([sys.executable, "-c", ANSWERS, str(vault), str(tmp_path)]) as answering,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server,
        ExitStack() as held,
    ):
        held.callback(answering.kill)
        held.callback(server.kill)
        assert wait_until(lambda: answers(vault), 10)
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        with trace("--tls", "auto", "--pid", str(server.pid)) as tracer:
            server.stdin.write(b"\n")
            server.stdin.flush()
            assert wait_until(lambda: not is_free(port), 10)
            curl_urls(tmp_path, port, ["/one"])
            rows = tracer.rows(2, where=is_exchange)
    assert seen(rows, "server") == [("GET", "/one", 200)]
    assert seen(rows, "client") == [("GET", "/vault", 204)]
    told = next(row["attributes"] for row in rows if row["kind"] == "server")
    assert "network.peer.port" not in told


# A client of one port, after very many sessions with another.
ELSEWHERE = """
import socket, ssl, sys
port, other, ca, number = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
def ask(port, path):
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as session:
        session.sendall(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
        session.recv(1000)
for turn in range(number):
    ask(other, f"/other?{turn}")
for turn in range(5):
    ask(port, f"/small?{turn}")
"""


def test_sessions_of_ports_that_are_not_asked_for(tmp_path: Path, ports: Ports) -> None:
    """They end as they are freed, though no connection that is followed ends them."""
    config = tmp_path / "config.yaml"
    config.write_text("connections: 128\n")
    (tmp_path / "place").mkdir()
    (tmp_path / "other").mkdir()
    with (
        https_server("nginx", ports.take(), tmp_path / "place") as server,
        subprocess.Popen([sys.executable, "-c", ANSWERS, str(other := ports.take()), str(server.folder)]) as answering,
        ExitStack() as held,
    ):
        held.callback(answering.kill)
        assert wait_until(lambda: answers(other), 10)
        with trace("--tls", "auto", "--config", str(config), "--port", str(server.port)) as tracer:
            run_python(ELSEWHERE, str(server.port), str(other), server.ca, "80")
            rows = tracer.rows(10)
            ledger = tracer.stop().ledger
    expected = sorted(("GET", f"/small?{turn}", 200) for turn in range(5))
    assert seen(rows, "client") == seen(rows, "server") == expected
    assert "one process has very many" not in ledger


# A server that reads a connection's first request, and has a child answer that and all others.
ANSWERED_BY_A_CHILD = """
import os, signal, socket, ssl, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2] + "/server.pem")
held = []
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    while True:
        session = context.wrap_socket(listening.accept()[0], server_side=True)
        if not session.recv(65536):
            continue
        if not os.fork():
            while True:
                session.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
                if not session.recv(65536):
                    os._exit(0)
        held.append(session)  # not freed
"""


def test_a_child_that_answers_what_its_parent_has_read(tmp_path: Path, ports: Ports) -> None:
    """What its parent has read is lost, and counted as that: it was not left unanswered, nor is it in flight for ever."""
    port = ports.take()
    make_certificates(tmp_path)
    words = [sys.executable, "-c", ANSWERED_BY_A_CHILD, str(port), str(tmp_path)]
    with subprocess.Popen(words) as server:
        assert wait_until(lambda: not is_free(port), 10)
        with trace("--tls", "auto", "--port", str(port), "--role", "server") as tracer:
            curl_urls(tmp_path, port, [f"/{turn}" for turn in range(5)])
            rows = tracer.rows(3, where=is_exchange)
            ledger = tracer.stop().ledger
        server.kill()
    assert seen(rows, "server") == [("GET", f"/{turn}", 204) for turn in range(2, 5)]
    account = next(line for line in ledger.splitlines() if "exchanges" in line)
    assert "= recorded 3 + in flight 0 + filtered " in account
    assert account.endswith(" + lost (desync) 1")


# A server that reads one byte to tell what is spoken, then TLS in memory; of a library that is not followed.
READS_ONE_BYTE = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listening:
    while True:
        with listening.accept()[0] as connection:
            for size in (1, 1, 100):
                connection.recv(size)
            connection.sendall(b"bye")
"""


@pytest.mark.parametrize(("hello", "number"), [(HELLO, 3), (b"\x16\x04\x01\x00\x05hello", 0), (b"\x16", 0)])
def test_a_server_that_reads_one_byte_first(ports: Ports, hello: bytes, number: int) -> None:
    port = ports.take()
    with subprocess.Popen([sys.executable, "-c", READS_ONE_BYTE, str(port)]) as server:
        assert wait_until(lambda: answers(port), 10)
        with trace("--tls", "auto", "--pid", str(server.pid)) as tracer:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(hello)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(100):
                        pass
            ledger = tracer.stop().ledger
        server.kill()
    assert f"TLS connections (each end): seen {number} = shown 0" in ledger
