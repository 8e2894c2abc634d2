"""Self-check: what each server logs is what each client recorded."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from . import build, load, process
from .clients import CLIENTS, can_upload_chunked, run, start_client
from .plan import BODY_10K, TRACEPARENT, Call, Result, plan_for, routes_of
from .servers import SERVERS, LoggedRequest, start

pytestmark = pytest.mark.peers


def available(name: str) -> str:
    """The name, or a skip that says why this peer cannot be had here."""
    try:
        build.ensure(name)
    except build.PeerUnavailable as error:
        pytest.skip(str(error))
    return name


def assert_same(logged: list[LoggedRequest], plan: list[Call], seen: list[Result]) -> None:
    """The log has each request once, with the client's status and every size it knows."""
    want = sorted(zip(plan, seen, strict=True), key=_by_result)
    have = sorted(logged, key=lambda one: (one.target, one.method, one.request_body_bytes or 0))
    assert [(one.method, one.target, one.status) for one in have] == [
        (result.method, result.path, result.status) for _, result in want
    ]
    for one, (call, result) in zip(have, want, strict=True):
        assert one.response_body_bytes in (None, result.response_body_bytes), one
        assert one.request_body_bytes in (None, len(call.body or b"")), one


def _by_result(pair: tuple[Call, Result]) -> tuple[str, str, int]:
    return pair[1].path, pair[1].method, len(pair[0].body or b"")


@pytest.mark.parametrize("name", SERVERS)
def test_server_logs_what_the_client_saw(name: str) -> None:
    available("requests")
    plan = plan_for(available(name))
    with start(name) as server:
        seen = run("requests", server.url, plan)
        assert_same(server.access_log(len(plan)), plan, seen)
        if server.socket_path:
            assert_same(server.upstream_log(len(plan)), plan, seen)
    assert [one.status for one in seen] == [route.status for route in routes_of(name)]


@pytest.mark.parametrize("name", CLIENTS)
def test_client_saw_what_the_server_logged(name: str) -> None:
    available("go")
    plan = plan_for("go", chunked_upload=can_upload_chunked(available(name)))
    with start("go") as server:
        seen = run(name, server.url, plan)
        assert_same(server.access_log(len(plan)), plan, seen)


@pytest.mark.parametrize("name", SERVERS)
def test_server_sends_three_chunks(name: str) -> None:
    if Call("GET", "/chunked") not in plan_for(available(name)):
        pytest.skip(f"{name} has no /chunked")
    with start(name) as server, socket.create_connection((server.host, server.port)) as peer:
        peer.settimeout(10)
        peer.sendall(b"GET /chunked HTTP/1.1\r\nHost: peer\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += peer.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert [int(size, 16) > 0 for size in body.split(b"\r\n")[::2] if size] == [True] * 3 + [False]


@pytest.mark.parametrize("name", SERVERS)
def test_server_ends_with_its_block(name: str) -> None:
    with start(available(name)) as server:
        pids, folder = server.pids, server.dir
        assert len(pids) >= SERVERS[name].processes
        for pid in pids:
            os.kill(pid, 0)
        assert server.access_log() == []
    assert server.pids == []
    assert not folder.exists()
    assert not process.connectable((server.host, server.port))


@pytest.mark.parametrize("name", CLIENTS)
def test_started_client_waits_and_sends_headers_and_bodies(name: str) -> None:
    plan = [
        Call("GET", "/first?a=1&b=%20x", headers={"traceparent": TRACEPARENT}),
        Call("PUT", "/second", BODY_10K),
    ]
    if can_upload_chunked(available(name)):
        plan.append(Call("POST", "/third", BODY_10K, {"Transfer-Encoding": "chunked"}))
    with recorder() as (url, records), start_client(name, url, plan) as client:
        pid = client.pid
        assert records == []
        seen = client.go()
        again = client.go(plan[:1])
    assert seen[0].pid == pid
    assert [one.status for one in seen + again] == [200] * (len(plan) + 1)
    assert sorted(records) == sorted(_record(call) for call in [*plan, plan[0]])


Record = tuple[str, str, str, str, bytes]  # method, target, traceparent, encoding, body


def _record(call: Call) -> Record:
    encoding = "chunked" if call.chunked else ""
    parent = call.headers.get("traceparent", "")
    return call.method, call.path, parent, encoding, call.body or b""


@contextmanager
def recorder() -> Iterator[tuple[str, list[Record]]]:
    """A server that keeps what it received, to see requests as they were sent."""
    records: list[Record] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def keep(self) -> None:
            encoding = self.headers.get("Transfer-Encoding", "").lower()
            parent = self.headers.get("traceparent", "")
            body = self.chunked() if encoding else self.sized()
            records.append((self.command, self.path, parent, encoding, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = keep

        def sized(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def chunked(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", records
        server.shutdown()


def test_wrk_counts_what_the_server_logged() -> None:
    available("wrk")
    available("go")
    with start("go") as server:
        count = load.wrk_run(f"{server.url}/api/users", 4, 1, 1)
        logged = len(server.access_log())
    assert 0 < count <= logged <= count + 4


def test_fixed_rate_run_counts_what_the_server_logged() -> None:
    available("vegeta")
    available("go")
    with start("go") as server:
        targets = [f"{server.url}/id/{number}" for number in range(5)] + [f"{server.url}/boom"]
        report = load.rate_run(targets, 120, 1, 4)
        logged = server.access_log(report["requests"])
    assert report["requests"] == len(logged) == 120
    assert report["statuses"] == {200: 100, 500: 20}
    assert report["bytes"] == sum(one.response_body_bytes or 0 for one in logged)


def test_missing_tool_makes_a_peer_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.RECIPES, "curl", build.Recipe("no-such-tool"))
    monkeypatch.setattr(build, "_failed", {})
    with pytest.raises(build.PeerUnavailable, match="curl: no-such-tool is not installed"):
        build.ensure("curl-reuse")


def test_failed_build_tells_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = build.Recipe("ls", "requirements.txt", ("{tool} {out}/nothing-here",))
    monkeypatch.setenv("RINGSPAN_TEST_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setitem(build.RECIPES, "curl", broken)
    monkeypatch.setattr(build, "_failed", {})
    with pytest.raises(build.PeerUnavailable, match="nothing-here"):
        build.ensure("curl")
