"""Every request that several real clients make to several real servers is reported by both sides, once, as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest

from peers import build
from peers.clients import CLIENTS, can_upload_chunked, run
from peers.plan import TRACEPARENT, Call, Result, plan_for
from peers.servers import SERVERS, Server, start

from .tracer import Row, Tracer, for_ports, trace

pytestmark = [pytest.mark.root, pytest.mark.peers]
REQUESTS = 1000
Facts = tuple[str, str, int, int, int, str]


def available(names: list[str] | dict[str, object]) -> list[str]:
    """The peers that can be had here; at least half of them, or the test means nothing."""
    out = []
    for name in names:
        try:
            build.ensure(name)
        except build.PeerUnavailable as error:
            print(f"left out: {error}")
        else:
            out.append(name)
    if len(out) * 2 < len(list(names)):
        pytest.skip(f"only {out} of {list(names)} can be had here")
    return out


@contextmanager
def running(names: list[str]) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(start(name)) for name in names]


def plan_of(server: str, client: str, number: int) -> list[Call]:
    """All routes, then requests whose paths no other pair has."""
    plan = plan_for(server, chunked_upload=can_upload_chunked(client))
    base = number * 3 % 990
    return plan + [Call("GET", f"/id/{base + i}") for i in range(3)]


def requested(server: Server, call: Call, result: Result) -> Facts:
    sent = len(call.body or b"")
    return call.method, call.path, result.status, sent, result.response_body_bytes, str(server.port)


def path_of(row: Row) -> str:
    """Path and query, as the client asked for them."""
    attributes = row["attributes"]
    if row["kind"] == "client":
        url = urlsplit(attributes["url.full"])
        return url.path + (f"?{url.query}" if url.query else "")
    query = attributes.get("url.query", "")
    return attributes["url.path"] + (f"?{query}" if query else "")


def reported(row: Row) -> Facts:
    attributes = row["attributes"]
    return (
        attributes["http.request.method"],
        path_of(row),
        attributes["http.response.status_code"],
        row["request_body_bytes"],
        row["response_body_bytes"],
        str(attributes["server.port"]),
    )


def difference(want: Counter[Facts], have: Counter[Facts]) -> str:
    missing, surplus = want - have, have - want
    return f"missing {dict(missing.most_common(8))}\nsurplus {dict(surplus.most_common(8))}"


def drive(servers: list[Server], clients: list[str]) -> tuple[Counter[Facts], set[int], int]:
    """Send until there are enough requests; returns what was asked and answered, and the clients' pids."""
    want: Counter[Facts] = Counter()
    pids: set[int] = set()
    traced = number = 0
    while sum(want.values()) < REQUESTS:
        for server in servers:
            for client in clients:
                plan = plan_of(server.name, client, number)
                number += 1
                results = run(client, server.url, plan)
                want.update(requested(server, call, result) for call, result in zip(plan, results, strict=True))
                pids.update(result.pid for result in results)
                traced += sum("traceparent" in call.headers for call in plan)
    return want, pids, traced


def check_side(rows: list[Row], kind: str, want: Counter[Facts]) -> None:
    have = Counter(reported(row) for row in rows if row["kind"] == kind)
    assert have == want, f"{kind} rows: {difference(want, have)}"


def check_peers(
    rows: list[Row], servers: list[Server], server_pids: dict[int, set[int]], client_pids: set[int]
) -> None:
    ports = {server.port for server in servers}
    for row in rows:
        attributes = row["attributes"]
        assert attributes["network.peer.address"] == "127.0.0.1"
        if row["kind"] == "server":
            assert attributes["process.pid"] in server_pids[attributes["server.port"]], row
        else:
            assert attributes["network.peer.port"] in ports
            assert attributes["process.pid"] in client_pids, row


def settled(tracer: Tracer, count: int) -> list[Row]:
    return [row for row in tracer.rows(expect=count, timeout=20) if row["name"] != "tcp connect"]


def test_a_thousand_mixed_requests_are_reported_by_both_sides() -> None:
    clients = available(list(CLIENTS))
    with running(available(list(SERVERS))) as servers, trace(*for_ports([server.port for server in servers])) as tracer:
        want, client_pids, traced = drive(servers, clients)
        server_pids = {server.port: set(server.pids) for server in servers}
        total = sum(want.values())
        rows = settled(tracer, 2 * total)
        ended = tracer.stop()
    check_side(rows, "server", want)
    check_side(rows, "client", want)
    check_peers(rows, servers, server_pids, client_pids)
    named = [row for row in rows if row["parent_span_id"] == TRACEPARENT.split("-")[2]]
    assert [row["kind"] for row in named] == ["client"] * traced
    clients_ids = {row["span_id"]: row["trace_id"] for row in rows if row["kind"] == "client"}
    for row in rows:  # each server's span is its client's child, in the trace that is named, if one is
        assert row["kind"] == "client" or clients_ids[row["parent_span_id"]] == row["trace_id"]
    assert len({row["span_id"] for row in rows}) == len(rows)
    assert all(row["truncated"] == [] for row in rows)
    assert "lost" not in ended.ledger
    assert "off by" not in ended.ledger
    assert ended.status == 0


def test_nginx_and_gunicorn_over_a_unix_socket() -> None:
    available(["nginx-gunicorn"])
    with start("nginx-gunicorn") as server, trace(*(f for pid in server.pids for f in ("--pid", str(pid)))) as tracer:
        plan = plan_for("nginx-gunicorn")
        results = run("requests", server.url, plan)
        upstream = Counter((one.method, one.target, one.status) for one in server.upstream_log(len(plan)))
        rows = settled(tracer, 3 * len(plan))
    over_unix = [row for row in rows if row["attributes"]["network.transport"] == "unix"]
    for kind in ("client", "server"):
        have = Counter(reported(row)[:3] for row in over_unix if row["kind"] == kind)
        assert have == upstream, kind
    assert all(row["attributes"]["network.peer.address"] == str(server.socket_path) for row in over_unix)
    front = Counter(reported(row)[:3] for row in rows if row["attributes"]["network.transport"] == "tcp")
    assert front == Counter((r.method, r.path, r.status) for r in results)
