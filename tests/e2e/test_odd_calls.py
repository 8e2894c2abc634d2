"""Calls that read or send otherwise than their result says at first sight, under each capture."""

from __future__ import annotations

import ctypes
import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .expected import at
from .messages import request, response
from .numbered import read
from .peer import FAMILIES, Place
from .raw import listening
from .stage import Stage
from .tracer import Row

pytestmark = pytest.mark.root
OK = response(body=b"ok")
UNSIZED = response(sized=False) + bytes(1 << 18)
BLOCKED, ASKED, ENDED = 40, 20, 300
BODY, PART = 20000, 3000
POST = request("POST /body", body=bytes(BODY), host=b"localhost")
TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE = 30, 34  # include/uapi/linux/tcp.h
MPTCP = Path("/proc/sys/net/mptcp/enabled")
SYN_SENT = 2  # enum of include/net/tcp_states.h


def get(path: str) -> bytes:
    return request(f"GET {path}", host=b"localhost")


def told(rows: list[Row], kind: str) -> list[tuple[str | None, int | None, str | None]]:
    return [
        (
            row["attributes"].get("url.path") or row["attributes"].get("url.full", "").rpartition("/")[2],
            row["attributes"].get("http.response.status_code"),
            row["attributes"].get("error.type"),
        )
        for row in rows
        if row["kind"] == kind
    ]


def connected(place: Place) -> socket.socket:
    client = socket.socket(FAMILIES[place.family])
    client.connect(place.address)
    return client


@contextmanager
def pair(place: Place) -> Iterator[tuple[socket.socket, socket.socket]]:
    with listening(place) as listener, connected(place) as client:
        server, _ = listener.accept()
        with server:
            yield client, server


def test_many_threads_that_sleep_in_connects_hide_no_failure(stage: Stage) -> None:
    """A breakpoint sees the returns of so many threads at once: of others the socket's end tells."""
    place = stage.place()
    listener = socket.create_server(place.address, backlog=0)
    with ExitStack() as stack:
        fillers = [stack.enter_context(socket.socket()) for _ in range(3)]  # of the room to wait to be accepted
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(place.address)
        time.sleep(0.2)
        results: list[int] = []

        def connect() -> None:
            with socket.socket() as sock:
                results.append(sock.connect_ex(place.address))

        threads = [threading.Thread(target=connect) for _ in range(BLOCKED)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        listener.close()
        for thread in threads:
            thread.join()
        errors = [filler.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for filler in fillers]
        refused = [*results, *errors].count(errno.ECONNREFUSED)
        rows = stage.rows(place, refused)
    assert results == [errno.ECONNREFUSED] * BLOCKED
    assert [row["attributes"]["error.type"] for row in rows] == ["ECONNREFUSED"] * refused


def test_many_threads_that_sleep_in_receives_hide_no_request(stage: Stage) -> None:
    place = stage.place()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(place.address, backlog=BLOCKED + 1))
        ends = []
        for _ in range(BLOCKED + 1):
            client = stack.enter_context(socket.create_connection(place.address))
            ends.append((client, stack.enter_context(listener.accept()[0])))
        for _, server in ends[1:]:
            threading.Thread(target=server.recv, args=(1,), daemon=True).start()
        time.sleep(0.5)
        client, server = ends[0]
        for n in range(ASKED):
            client.sendall(get(f"/{n}"))
            assert server.recv(4096)
            server.sendall(OK)
            assert client.recv(4096) == OK
        rows = stage.rows(place, 2 * ASKED)
        for client, _ in ends[1:]:
            client.sendall(b"x")
    wanted = sorted((f"/{n}", 200, None) for n in range(ASKED))
    assert sorted(told(rows, "server")) == wanted
    assert len(told(rows, "client")) == ASKED


def test_receives_from_unix_sockets_that_slept_and_then_an_end(stage: Stage) -> None:
    """Of most of these threads a breakpoint does not see that their receive returned, nor do they call again."""
    place = stage.place("unix")
    got: list[bytes] = []

    def ask(number: int) -> None:
        with connected(place) as client:
            client.sendall(get(f"/{number}"))
            got.append(client.recv(4096))

    with ExitStack() as stack:
        listener = stack.enter_context(listening(place))
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(BLOCKED)]
        for thread in threads:
            thread.start()
        servers = [stack.enter_context(listener.accept()[0]) for _ in threads]
        for server in servers:
            assert server.recv(4096)
        time.sleep(0.5)
        for server in servers:
            server.sendall(OK)
        for thread in threads:
            thread.join()
    assert got == [OK] * BLOCKED
    rows = stage.rows(place, 2 * BLOCKED)
    assert sorted(told(rows, "client")) == sorted((f"{n}", 200, None) for n in range(BLOCKED))
    assert sorted(told(rows, "server")) == sorted((f"/{n}", 200, None) for n in range(BLOCKED))


@pytest.mark.parametrize("family", ["v4", "unix"])
def test_many_threads_that_sleep_in_accepts_hide_no_request(family: str, stage: Stage) -> None:
    """A body that comes in parts: of a connection that is known from its accept on each part is followed."""
    place = stage.place(family)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as server:
            read(server, len(POST), PART)
            server.sendall(OK)

    with listening(place) as listener:
        threads = [threading.Thread(target=serve, args=(listener,)) for _ in range(BLOCKED)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        for _ in threads:
            with connected(place) as client:
                client.sendall(POST)
                assert client.recv(4096) == OK
        for thread in threads:
            thread.join()
    rows = [row for row in stage.rows(place, 2 * BLOCKED) if row["kind"] == "server"]
    assert [(row["attributes"]["http.response.status_code"], row["request_body_bytes"]) for row in rows] == [
        (200, BODY)
    ] * BLOCKED


def test_connections_by_tcp_to_a_listener_for_mptcp(stage: Stage) -> None:
    """As Go's servers have it, where the kernel has MPTCP."""
    place = stage.place()
    has = MPTCP.exists() and MPTCP.read_text().strip() == "1"
    with listening(place, protocol=socket.IPPROTO_MPTCP if has else 0) as listener:
        for _ in range(ASKED):
            with connected(place) as client, listener.accept()[0] as server:
                for _ in range(2):
                    client.sendall(POST)
                    read(server, len(POST), PART)
                    server.sendall(OK)
                    assert client.recv(4096) == OK
    rows = stage.rows(place, 4 * ASKED)
    for kind in ("client", "server"):
        assert [row["request_body_bytes"] for row in rows if row["kind"] == kind] == [BODY] * 2 * ASKED


def test_a_receive_of_no_bytes_is_no_end(stage: Stage) -> None:
    place = stage.place()
    with pair(place) as (client, server):
        client.sendall(get("/nothing"))
        assert server.recv(4096)
        server.sendall(OK)
        server.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        assert ctypes.CDLL(None).recv(client.fileno(), ctypes.create_string_buffer(1), 0, 0) == 0
        assert client.recv(4096) == OK
        assert client.recv(4096) == b""
    rows = stage.rows(place, 2)
    assert told(rows, "client") == [("nothing", 200, None)]
    assert told(rows, "server") == [("/nothing", 200, None)]


def test_an_end_in_the_midst_of_a_receive(stage: Stage) -> None:
    """The peer's FIN ends TCP here (this side has sent its own) before the receive of what came ahead of it returns."""
    place = stage.place()
    with socket.create_server(place.address, backlog=ENDED) as listener:

        def serve() -> None:
            for _ in range(ENDED):
                with listener.accept()[0] as server:
                    while server.recv(4096):
                        pass
                    server.sendall(UNSIZED)

        threading.Thread(target=serve, daemon=True).start()
        for n in range(ENDED):
            with socket.create_connection(place.address) as client:
                client.sendall(get(f"/{n}"))
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 20):
                    pass
    rows = stage.rows(place, 2 * ENDED)
    assert sorted(told(rows, "client")) == sorted((f"{n}", 200, None) for n in range(ENDED))
    assert len(told(rows, "server")) == ENDED


@pytest.mark.parametrize("family", ["v4", "unix"])
def test_an_urgent_byte_is_none_of_the_stream(family: str, stage: Stage) -> None:
    place = stage.place(family)
    with pair(place) as (client, server):
        client.sendall(b"GET /urgent-a")
        try:
            client.send(b"Z", socket.MSG_OOB)
        except OSError as error:  # of Unix sockets since Linux 5.15
            assert (family, error.errno) == ("unix", errno.EOPNOTSUPP)
            return
        client.sendall(b"b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
        got = server.recv(4096)
        assert server.recv(1, socket.MSG_OOB) == b"Z"
        while not got.endswith(b"\r\n\r\n"):
            got += server.recv(4096)
        server.sendall(OK)
        assert client.recv(4096) == OK
    rows = stage.rows(place, 1)
    assert told(rows, "server") in ([("/urgent-ab", 200, None)], [])
    assert told(rows, "client") in ([("urgent-ab", 200, None)], [])


def test_no_span_to_nowhere_after_fast_open(stage: Stage) -> None:
    place = stage.place()
    with socket.create_server(place.address) as listener, socket.socket() as client:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
        client.sendto(get("/first"), socket.MSG_FASTOPEN, place.address)
        server, _ = listener.accept()
        with server:
            for path in ("/first", "/second", "/third"):
                if path != "/first":
                    time.sleep(0.2)
                    client.sendall(get(path))
                assert server.recv(4096) == get(path)
                server.sendall(OK)
                assert client.recv(4096) == OK
    rows = stage.rows(place, 4)
    everywhere = [row for row in stage.tcp.all_rows() if "/third" in row["attributes"].get("url.full", "")]
    assert {row["attributes"]["server.port"] for row in everywhere} <= {place.port}
    assert told(rows, "server")[-1] == ("/third", 200, None)


def connecting_later(place: Place) -> socket.socket:
    """A client that connects with its first send, whose bytes go with the SYN; connect() has succeeded before."""
    client = socket.socket()
    for option in (TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE):
        client.setsockopt(socket.IPPROTO_TCP, option, 1)
    client.connect(place.address)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == bytes([SYN_SENT])
    return client


def test_a_connect_that_waits_for_the_first_send(stage: Stage) -> None:
    place = stage.place()
    paths = [f"/{n}" for n in range(3)]
    with socket.create_server(place.address) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, ASKED)
        for _ in range(ASKED):
            with connecting_later(place) as client:
                client.sendall(get(paths[0]))
                server, _ = listener.accept()
                with server:
                    for path in paths:
                        if path != paths[0]:
                            time.sleep(0.15)  # a connection is picked up again when it has been quiet
                            client.sendall(get(path))
                        assert server.recv(4096) == get(path)
                        server.sendall(OK)
                        assert client.recv(4096) == OK
    rows = stage.rows(place, 5 * ASKED)
    assert sorted(told(rows, "server")) == sorted((path, 200, None) for path in paths * ASKED)
    clients = [path for path, *how in told(rows, "client") if how == [200, None]]
    assert len(clients) == len(told(rows, "client"))
    assert [clients.count(path[1:]) for path in paths[1:]] == [ASKED] * 2


def test_one_that_is_refused_then(stage: Stage) -> None:
    place = stage.place()
    with connecting_later(place) as client, pytest.raises(ConnectionRefusedError):
        client.sendall(get("/refused"))
    assert [row["attributes"]["error.type"] for row in stage.rows(place, 1)] == ["ECONNREFUSED"]


def test_one_that_is_given_up_before(stage: Stage) -> None:
    place = stage.place()
    with connecting_later(place):
        pass
    assert stage.rows(place, 0) == []


def test_packets_are_no_stream(stage: Stage) -> None:
    """SOCK_SEQPACKET shares functions of the kernel with Unix stream sockets."""
    path = str(stage.folder / "packets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as refused, pytest.raises(OSError):
        refused.connect(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            server, _ = listener.accept()
            with server:
                client.sendall(get("/packets"))
                assert server.recv(4096)
                server.sendall(OK)
                assert client.recv(4096) == OK
    assert stage.unix.rows(0, where=at(Place("unix", 10000, path))) == []
