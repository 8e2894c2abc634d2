"""One trace on one host: whose child a span is, under load and against what could mislead, without a wrong parent."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peers import relays
from peers.build import PeerUnavailable
from peers.process import free_port

from . import stack
from .askers import Row, ask, ask_ahead, ask_side_by_side, end, parents, path, strangers
from .tracer import for_ports, trace

pytestmark = [pytest.mark.root, pytest.mark.peers, pytest.mark.timeout(600)]
REQUESTS, CONNECTIONS = 10_000, 100
ROOM = "ring_bytes: 268435456\nspans_per_second: 0\n"
SETTLE_SECONDS = 60
QUIET_SECONDS = 1.2  # more than the second after which a process that shares threads is believed
ALL_KINDS = ("id", "wait", "later")


@contextmanager
def relay(name: str, upstream: str) -> Iterator[relays.Relay]:
    try:
        with relays.start(name, upstream) as running:
            yield running
    except PeerUnavailable as error:
        pytest.skip(str(error))


def numbered(kinds: tuple[str, ...], count: int) -> list[str]:
    return [f"/{kinds[i % len(kinds)]}/{i}" for i in range(count)]


class Run:
    """The rows of a relay and of the server behind it, while it was asked for these paths."""

    def __init__(
        self, name: str, paths: list[str], asking: Callable[[int, list[str]], list[int]], folder: Path, more: int = 0
    ) -> None:
        config = folder / "room.yaml"
        config.write_text(ROOM)
        asked = sum(2 if one.startswith("/twice/") else 1 for one in paths)
        with relay("upstream", "") as upstream, relay(name, upstream.address) as asked_one:
            self.relay, self.upstream = asked_one.port, upstream.port
            with trace("--config", str(config), *for_ports([asked_one.port, upstream.port])) as tracer:
                assert set(asking(asked_one.port, paths)) == {200}
                tracer.wait_for_rows(2 * (len(paths) + asked) + more, SETTLE_SECONDS)
                self.rows = tracer.rows()
                ledger = tracer.stop().ledger
        assert "ring full" not in ledger, ledger

    def of(self, kind: str, port: int) -> list[Row]:
        return [row for row in self.rows if end(row) == (kind, port)]

    @property
    def made(self) -> list[Row]:
        """What the relay has asked for."""
        return self.of("client", self.upstream)

    def joined(self) -> float:
        """The share of what the relay has asked for that has a parent."""
        return sum(bool(row["parent_span_id"]) for row in self.made) / len(self.made)

    def both_ends(self) -> None:
        """Each server's span is its client's child."""
        served = [*self.of("server", self.relay), *self.of("server", self.upstream)]
        of = {row["span_id"]: parent for row, parent in parents(self.rows)}
        assert all(of[row["span_id"]] for row in served)
        assert all(end(of[row["span_id"]]) == ("client", row["attributes"]["server.port"]) for row in served)


@pytest.mark.parametrize("name", ["gunicorn-threads", "gunicorn-sync", "java"])
def test_a_thread_for_each_request(name: str, tmp_path: Path) -> None:
    kinds = ("id", "twice") if name != "java" else ("id",)
    run = Run(name, numbered(kinds, REQUESTS), partial(ask, connections=CONNECTIONS), tmp_path)
    assert not strangers(run.rows)
    assert run.joined() >= 0.99
    run.both_ends()


@pytest.mark.parametrize("name", ["nginx", "node", "asyncio", "go"])
@pytest.mark.parametrize("connections", [CONNECTIONS, 1])
def test_many_requests_on_one_thread(name: str, connections: int, tmp_path: Path) -> None:
    kinds = ALL_KINDS if name in ("node", "asyncio") else ("id", "later") if name == "go" else ("id",)
    count = REQUESTS if connections > 1 else REQUESTS // 10
    run = Run(name, numbered(kinds, count), partial(ask, connections=connections), tmp_path)
    assert not strangers(run.rows)
    assert not [path(row) for row in run.made if row["parent_span_id"] and path(row).startswith("/later/")]
    run.both_ends()


def test_nginx_that_serves_one_request_at_a_time(tmp_path: Path) -> None:
    def asking(port: int, paths: list[str]) -> list[int]:
        first = ask(port, paths[:1], 1)
        time.sleep(QUIET_SECONDS)
        return first + ask(port, paths[1:], 1)

    run = Run("nginx-one", numbered(("id",), 500), asking, tmp_path)
    assert [path(row) for row in run.made if not row["parent_span_id"]] == ["/id/0"]
    assert not strangers(run.rows)


@pytest.mark.parametrize(
    ("way", "least", "most"),
    [
        ("handed_over", 0, 0),
        ("in_stages", 0, 0.05),  # at the beginning, while one request alone is served
        ("selecting", 0, 0),
        ("before_and_after", 0.95, 1),
        ("with_background", 0.95, 1),
        ("asyncio-ticking", 0, 0),
    ],
)
@pytest.mark.parametrize("connections", [20, 2])
def test_threads_that_mislead(way: str, least: float, most: float, connections: int, tmp_path: Path) -> None:
    run = Run(way, numbered(("id",), 1000), partial(ask, connections=connections), tmp_path)
    assert not [one for one in strangers(run.rows) if one[1] != "?"]  # what still runs at the end has lost some
    assert not [row for row in run.made if row["parent_span_id"] and path(row) == "/tick/0"]
    of_requests = [row for row in run.made if path(row) != "/tick/0"]
    share = sum(bool(row["parent_span_id"]) for row in of_requests) / len(of_requests)
    assert least <= share <= most


def test_a_connection_that_is_opened_for_one_and_used_for_none(tmp_path: Path) -> None:
    run = Run("pooling", numbered(("id",), 50), partial(ask, connections=1), tmp_path, more=100)
    assert not [row for row in run.made if row["parent_span_id"]]


@pytest.mark.parametrize("bodies", [False, True])
def test_what_a_thread_asks_once_it_has_read_the_next(bodies: bool, tmp_path: Path) -> None:
    run = Run("reading_ahead", numbered(("id",), 50), partial(ask_ahead, bodies=bodies), tmp_path, more=100)
    ticks = [row for row in run.made if path(row) == "/tick/0"]
    assert ticks and not [row for row in ticks if row["parent_span_id"]]
    assert not strangers(run.rows)


def test_a_request_that_names_no_parent_on_a_thread_that_has_two(tmp_path: Path) -> None:
    asking = partial(ask_side_by_side, header="traceparent: none")
    assert not strangers(Run("in_pairs", numbered(("id",), 50), asking, tmp_path).rows)


@pytest.mark.parametrize("way", ["in_batches", "in_batches_unblocked"])
def test_a_request_older_than_the_trace(way: str) -> None:
    with relay("upstream", "") as upstream, relay(way, upstream.address) as asking:
        ports = for_ports([asking.port, upstream.port])
        with socket.create_connection(("127.0.0.1", asking.port)) as older:
            older.sendall(b"GET /older/0 HTTP/1.1\r\nHost: relay\r\n\r\n")
            time.sleep(QUIET_SECONDS)
            with trace(*ports) as tracer:
                time.sleep(QUIET_SECONDS)
                assert ask(asking.port, ["/id/1"], 1) == [200]
                rows = tracer.rows(expect=6)
    assert "/older/0" in map(path, rows)
    assert not strangers(rows)


# One thread, one loop: it computes for a while for each request, answers later, and has a timer that was due meanwhile.
LOOP = """
import selectors, socket, sys, time
upstream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
listener, loop, timers = socket.create_server(("127.0.0.1", 0)), selectors.DefaultSelector(), []
for one in (listener, upstream):
    loop.register(one, selectors.EVENT_READ)
print(listener.getsockname()[1], flush=True)
while True:
    for ready, _ in loop.select(0 if timers else None):
        if ready.fileobj is listener:
            connection = listener.accept()[0]
            connection.setblocking(False)
            loop.register(connection, selectors.EVENT_READ)
        elif ready.fileobj is upstream:
            upstream.recv(65536)
            connection.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        elif head := connection.recv(65536):
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
            timers.append(head.split()[1].rpartition(b"/")[2])
        else:
            loop.unregister(connection)
    while timers:
        upstream.sendall(b"GET /timer/of-%s HTTP/1.1\\r\\nHost: up\\r\\n\\r\\n" % timers.pop())
"""


def test_a_timer_of_an_event_loop_that_was_due_while_it_computed() -> None:
    """What the loop does next is nobody's, for all that can be told."""
    with relay("upstream", "") as upstream:
        command = [sys.executable, "-c", LOOP, str(upstream.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            port = int(server.stdout.readline())
            with trace(*for_ports([port, upstream.port])) as tracer:
                for number in range(3):
                    time.sleep(QUIET_SECONDS)
                    assert ask(port, [f"/work/{number}"], 1) == [200]
                rows = tracer.rows(expect=12)
            server.kill()
    made = [row for row in rows if end(row) == ("client", upstream.port)]
    assert sorted(map(path, made)) == [f"/timer/of-{number}" for number in range(3)]
    assert [row["parent_span_id"] for row in made] == [None] * 3


CHAIN = [
    ("curl", "GET", 502, "502"),
    ("nginx", "GET", 502, "502"),
    ("nginx", "GET", 502, "502"),
    ("gunicorn", "GET", 502, "502"),
    ("gunicorn", "GET", 502, "502"),
    ("go-relay", "GET", 502, "502"),
    ("go-relay", "tcp connect", None, "ECONNREFUSED"),
]


def in_order(spans: list[dict[str, Any]], services: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Service, name, status and error of each span, from the root down; each must have one child."""
    below = {(one["references"] or [{"spanID": ""}])[0]["spanID"]: one for one in spans}
    assert len(below) == len(spans)
    out, at = [], ""
    while one := below.get(at):
        named = {tag["key"]: tag["value"] for tag in one["tags"]}
        service = services[one["processID"]]["serviceName"]
        out.append((service, one["operationName"], named.get("http.response.status_code"), named.get("error.type")))
        at = one["spanID"]
    return out


@pytest.mark.backend
def test_one_curl_through_four_programs_is_one_trace(tmp_path: Path) -> None:
    """curl, nginx, gunicorn, Go, and an upstream that refuses: with default settings, in real Jaeger."""
    refusing = free_port()
    with stack.jaeger(tmp_path) as jaeger, ExitStack() as running:
        go = running.enter_context(relay("go", f"127.0.0.1:{refusing}"))
        gunicorn = running.enter_context(relay("gunicorn-one", go.address))
        nginx = running.enter_context(relay("nginx-one", gunicorn.address))
        ports = [refusing, go.port, gunicorn.port, nginx.port]
        with trace(*for_ports(ports), "--otlp", f"http://{jaeger.otlp}") as tracer:
            assert ask(nginx.port, ["/id/0"], 1) == [502]  # from here on they are watched
            for number in range(3):
                time.sleep(QUIET_SECONDS)
                subprocess.run(["curl", "-s", f"http://{nginx.address}/id/{number}"], check=True)
            tracer.rows(expect=4 * len(CHAIN))
            tracer.stop()
        end = time.monotonic() + 20
        traces: list[Any] = []
        while len(traces) < 3 and time.monotonic() < end:
            time.sleep(0.5)
            found = stack.fetch(f"{jaeger.api}/traces", service="curl", limit="100", lookback="1h")
            traces = (found or {}).get("data") or []
    assert len(traces) == 3
    for one in traces:
        assert in_order(one["spans"], one["processes"]) == CHAIN
