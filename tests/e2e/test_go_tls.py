"""HTTPS by Go's crypto/tls: each exchange in the server's log is one row of the server and one of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .go_peers import NEW, OLD, built, go_client, go_server
from .tls_peers import BIG_BYTES, SCALE, HttpsServer, assert_nothing_lost, assert_told_once, curl, https_server, seen
from .tracer import Tracer, trace

if TYPE_CHECKING:
    from pathlib import Path

    from .stage import Ports

pytestmark = pytest.mark.root
BUILDS = [(OLD, "plain"), (OLD, "cgo"), ("go1.18.10", "stripped"), ("go1.20.14", "pie"), ("go1.22.12", "stripped"),
          ("go1.24.6", "pie"), (NEW, "plain"), (NEW, "stripped"), (NEW, "pie"), (NEW, "cgo")]  # fmt: skip


def tracing(server: HttpsServer, *flags: str) -> Any:
    return trace("--tls", "auto", "--port", str(server.port), *flags)


def check(tracer: Tracer, logged: list[tuple[str, str, int]], server: HttpsServer) -> list[Any]:
    """Each logged exchange is told once by each side, with the peer's true address, and nothing is lost."""
    rows = tracer.rows(2 * len(logged), timeout=20)
    ended = tracer.stop()
    rows += ended.rows
    assert_told_once(rows, logged, server.port)
    assert_nothing_lost(ended.ledger, len(rows))
    return rows


@pytest.mark.parametrize(("version", "way"), BUILDS)
def test_each_exchange_is_told_once_by_each_side(tmp_path: Path, ports: Ports, version: str, way: str) -> None:
    program = built(version, way)
    with go_server(program, ports.take(), tmp_path) as server, tracing(server) as tracer:
        go_client(program, server, "-connections", "2", "-each", str(4 * SCALE))
        check(tracer, server.logged(8 * SCALE), server)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("certificate", [True, False])
def test_versions_of_tls_and_client_certificates(tmp_path: Path, ports: Ports, version: str, certificate: bool) -> None:
    program = built(NEW, "stripped")
    flags = ["-tls", version, *(["-certificate"] if certificate else [])]
    with go_server(program, ports.take(), tmp_path, *flags) as server, tracing(server) as tracer:
        go_client(program, server, "-each", "4", *flags)
        check(tracer, server.logged(4), server)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_fifty_connections_and_two_thousand_requests(tmp_path: Path, ports: Ports, version: str) -> None:
    """The long form is five times as long a burst: more than the default ring holds while both processors are busy."""
    program = built(version, "stripped")
    config = tmp_path / "config.yaml"
    config.write_text("ring_bytes: 67108864\n" if SCALE > 1 else "")
    with (
        go_server(program, ports.take(), tmp_path) as server,
        tracing(server, "--config", str(config)) as tracer,
    ):
        go_client(program, server, "-connections", "50", "-each", str(40 * SCALE))
        logged = server.logged(2000 * SCALE)
        assert len(logged) == 2000 * SCALE
        check(tracer, logged, server)


def test_large_bodies(tmp_path: Path, ports: Ports) -> None:
    program = built(NEW, "pie")
    with go_server(program, ports.take(), tmp_path) as server, tracing(server) as tracer:
        go_client(program, server, "-each", "3", "-upload", "1234567")
        curl(server, ["/big"])
        rows = check(tracer, server.logged(4), server)
    up = [row for row in rows if row["attributes"]["http.request.method"] == "PUT"]
    down = [row for row in rows if row["attributes"]["http.request.method"] == "GET"]
    assert [row["request_body_bytes"] for row in up] == [1234567] * 6
    assert [row["response_body_bytes"] for row in down] == [BIG_BYTES] * 2


def test_with_peers_of_other_libraries(tmp_path: Path, ports: Ports) -> None:
    program = built(NEW, "stripped")
    for kind in ("go", "nginx", "known"):
        (tmp_path / kind).mkdir()
    with go_server(program, ports.take(), tmp_path / "go") as server, tracing(server) as tracer:
        curl(server, ["/small?1", "/small?2", "/none"])
        check(tracer, server.logged(3), server)
    with (
        go_server(program, ports.take(), tmp_path / "known"),  # so that its file is attached to before
        https_server("nginx", ports.take(), tmp_path / "nginx") as server,
        tracing(server) as tracer,
    ):
        go_client(program, server, "-connections", "5", "-each", "10")
        check(tracer, server.logged(50), server)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_is_read_into_a_stack_that_is_moved(tmp_path: Path, ports: Ports, version: str) -> None:
    program = built(version, "stripped")
    with (
        go_server(program, ports.take(), tmp_path, what="serve-from-stack") as server,
        tracing(server) as tracer,
    ):
        for number in range(20 * SCALE):
            curl(server, [f"/small?{number}"])
        check(tracer, server.logged(20 * SCALE), server)


def test_connections_that_are_dropped_unclosed(tmp_path: Path, ports: Ports) -> None:
    """Their memory becomes other connections': nothing of one is taken for another's."""
    program = built(NEW, "stripped")
    with go_server(program, ports.take(), tmp_path) as server, tracing(server) as tracer:
        go_client(program, server, "-each", str(40 * SCALE), what="client-that-forgets")
        rows = tracer.rows(120 * SCALE, timeout=10)
        logged = server.logged(60 * SCALE)
    assert seen(rows, "server") == logged
    answered = [row for row in rows if row["kind"] == "client" and "unread" not in str(row["attributes"])]
    assert seen(answered, "client") == [line for line in logged if "unread" not in line[1]]
    unread = [row for row in rows if row["kind"] == "client" and "unread" in str(row["attributes"])]
    assert {row["attributes"].get("http.response.status_code") for row in unread} <= {None}


def test_http2_is_counted_not_followed(tmp_path: Path, ports: Ports) -> None:
    program = built(NEW, "stripped")
    with go_server(program, ports.take(), tmp_path, "-h2") as server, tracing(server) as tracer:
        go_client(program, server, "-h2", "-each", "3")
        assert [line[1] for line in server.logged(3)] == ["/small?0.0", "/small?0.1", "/small?0.2"]
        assert tracer.rows() == []
        ended = tracer.stop()
    assert "seen 0 = recorded 0" in ended.ledger
    assert "2 HTTP/2 connections (each end)" in ended.ledger
