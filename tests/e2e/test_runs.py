"""What only a run of its own shows: connections from before it, its ledger, its end."""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from . import attempts
from .expected import Exchange, assert_seen, at, failed_connect, seen
from .messages import OK, pipelined, request, response, swap, turns
from .peer import Peer, Place, Talk
from .raw import (
    accepted,
    connected,
    listening,
    play,
    recv,
    send,
    take,
)
from .tracer import Row, Tracer, for_ports, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stage import Ports

pytestmark = pytest.mark.root

GET = request()
POST = request("POST /mid", "Content-Length: 20")
Ends = tuple[Peer, Peer]


def turn(client: Peer, server: Peer, ask: bytes = GET, answer: bytes = OK) -> None:
    """One exchange, in this thread."""
    take(client, [send(ask)])
    take(server, [recv(len(ask)), send(answer)])
    take(client, [recv(len(answer))])


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class EarlierConnections:
    """Connections that are in various states when tracing begins."""

    def __init__(self, places: dict[str, Place]) -> None:
        self.places = places
        self.ends: dict[str, Ends] = {}
        self.threads: dict[str, threading.Thread] = {}

    def open(self) -> None:
        for name, place in self.places.items():
            with listening(place) as listener:
                client = connected(place)
                self.ends[name] = client, accepted(listener, place)
        turn(*self.ends["used before"])
        client, server = self.ends["server blocked in recv"]
        self.threads["server"] = in_thread(lambda: take(server, [recv(len(GET)), send(OK)]))
        client, _ = self.ends["client blocked in recv"]
        take(client, [send(GET)])
        self.threads["client"] = in_thread(lambda: take(self.ends["client blocked in recv"][0], [recv(len(OK))]))
        take(self.ends["in mid body"][0], [send(POST), send(b"x" * 10)])
        take(self.ends["in mid body"][1], [recv(len(POST) + 10)])
        take(self.ends["in mid response"][0], [send(GET)])
        take(
            self.ends["in mid response"][1],
            [recv(len(GET)), send(response("200 OK", "Content-Length: 20", sized=False) + b"y" * 10)],
        )

    def go_on(self) -> None:
        turn(*self.ends["never used"])
        turn(*self.ends["used before"])
        self._finish_blocked()
        self._finish_halves()
        for name in self.places:
            turn(*self.ends[name], request("GET /last"))
        for client, server in self.ends.values():
            client.sock.close()
            server.sock.close()

    def _finish_blocked(self) -> None:
        client, server = self.ends["server blocked in recv"]
        take(client, [send(GET), recv(len(OK))])
        self.threads["server"].join()
        client, server = self.ends["client blocked in recv"]
        take(server, [recv(len(GET)), send(OK)])
        self.threads["client"].join()

    def _finish_halves(self) -> None:
        client, server = self.ends["in mid body"]
        take(client, [send(b"x" * 10)])
        take(server, [recv(10), send(OK)])
        take(client, [recv(len(OK))])
        client, server = self.ends["in mid response"]
        take(server, [send(b"y" * 10)])
        take(client, [recv(len(response("200 OK", "Content-Length: 20", sized=False)) + 20)])


LAST = Exchange(path="/last", got=5)
EARLIER = {
    "never used": [Exchange(got=5), LAST],
    "used before": [Exchange(got=5), LAST],
    "server blocked in recv": [Exchange(got=5), LAST],
    # The server reads the request within the run; the client sent it before, so its side is not to be known.
    "client blocked in recv": [Exchange(got=5, sides=("server",)), LAST],
    "in mid body": [LAST],
    "in mid response": [LAST],
}


@pytest.fixture(scope="module")
def earlier(ports: Ports) -> dict[str, list[Row]]:
    connections = EarlierConnections({name: Place("v4", ports.take()) for name in EARLIER})
    connections.open()
    with trace(*for_ports([place.port for place in connections.places.values()])) as tracer:
        connections.go_on()
        tracer.rows(2 * sum(map(len, EARLIER.values())) - 1, timeout=3)
        return {name: tracer.rows(where=at(place)) for name, place in connections.places.items()}


@pytest.mark.parametrize("name", EARLIER)
def test_connection_from_before_the_run(name: str, earlier: dict[str, list[Row]]) -> None:
    assert_seen(earlier[name], [row for exchange in EARLIER[name] for row in exchange.seen()])


# --- the ledger -----------------------------------------------------------------------------------


def number_after(words: str, text: str) -> int:
    """The number that follows these words in a ledger, or comes right before them."""
    match = re.search(rf"(\d+) {words}|{words}\D{{0,20}}(\d+)", text)
    assert match, f"{words!r} is not in the ledger:\n{text}"
    return int(match[1] or match[2])


@pytest.fixture(scope="module")
def place(ports: Ports) -> Place:
    return Place("v4", ports.take())


def test_ledger_adds_up_and_the_end_is_quick(place: Place) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with trace(*for_ports([place.port])) as tracer:
        attempts.blocking(111)(place)
        play(place, [turns(3 * [(GET, OK)]), swap(preface, b"\0" * 9), Talk([send(b"GET /half HT")], [recv(12)])])
        with listening(place) as listener:
            client, server = connected(place), None
            server = accepted(listener, place)
            take(client, [send(GET)])
            take(server, [recv(len(GET))])
            rows = tracer.rows(7)
            ended = tracer.stop()
            for peer in (client, server):
                peer.sock.close()
    assert_seen(rows + ended.rows, [failed_connect("ECONNREFUSED"), *3 * Exchange(got=5).seen()])
    assert ended.status == 0
    assert ended.seconds < 2
    assert_ledger(ended.ledger)


def assert_ledger(text: str) -> None:
    """On each side: three exchanges, one under way, one HTTP/2 connection; and one failed connect."""
    exchanges = next(line for line in text.splitlines() if "exchanges" in line)
    assert number_after("seen", exchanges) == 8, text
    assert number_after("recorded", exchanges) == 6, text
    assert number_after("in flight", exchanges) == 2, text
    assert number_after("seen", next(line for line in text.splitlines() if "failed connect" in line)) == 1, text
    assert number_after("HTTP/2", text) == 2, text
    assert_sums(text)


def assert_sums(text: str) -> None:
    """Both sides of each equation are equal."""
    for line in text.splitlines():
        if " = " in line:
            left, right = (sum(map(int, re.findall(r" (\d+)", side))) for side in line.split(" = "))
            assert left == right, line


@pytest.mark.parametrize(("count", "all_seen"), [(200, True), (300, False)])
def test_what_is_lost_is_in_the_ledger(ports: Ports, count: int, all_seen: bool) -> None:
    """More requests in one call than can be kept, or even followed: no row is wrong, and the ledger tells of the rest."""
    place = Place("v4", ports.take())
    asks = [request(f"GET /{i}") for i in range(count)]
    answers = [response(body=b"x" * i) for i in range(count)]
    with trace(*for_ports([place.port])) as tracer:
        play(place, [pipelined(asks, answers), swap(request("GET /after"))])
        rows = tracer.rows(100, timeout=2)
        ended = tracer.stop()
    rows += ended.rows
    wanted = [Exchange(path=f"/{i}", got=i) for i in range(count)] + [Exchange(path="/after", got=5)]
    possible = {one for exchange in wanted for one in exchange.seen()}
    assert {seen(row) for row in rows} <= possible
    assert len({seen(row) for row in rows}) == len(rows)
    exchanges = next(line for line in ended.ledger.splitlines() if "exchanges" in line)
    assert number_after("recorded", exchanges) == len(rows), exchanges
    assert "lost" in exchanges
    assert_sums(ended.ledger)
    if all_seen:
        assert number_after("seen", exchanges) == 2 * len(wanted), exchanges
    else:
        assert "not followed: nothing" not in ended.ledger
    assert seen_after(rows) == {"server", "client"}, "the next connection is as good as any"


def seen_after(rows: list[Row]) -> set[str]:
    return {row["kind"] for row in rows if seen(row).path == "/after"}


def test_rows_of_the_last_moment_are_printed(ports: Ports) -> None:
    """What was recorded before the signal is printed after it."""
    place = Place("v4", ports.take())
    with trace(*for_ports([place.port])) as tracer:
        play(place, 20 * [swap(GET)])
        before = tracer.all_rows()
        ended = tracer.stop()
    assert_seen(before + ended.rows, 20 * Exchange(got=5).seen())
    assert ended.status == 0


# --- filters --------------------------------------------------------------------------------------


def rows_of_other_port(tracer: Tracer, ports: Ports) -> list[Row]:
    place = Place("v4", ports.take())
    play(place, [swap(GET)])
    return tracer.rows(1, timeout=0.5, where=at(place))


@pytest.mark.parametrize("role", ["server", "client"])
def test_role(role: str, ports: Ports) -> None:
    wanted, refused = Place("v4", ports.take()), Place("v4", ports.take())
    with trace("--role", role, *for_ports([wanted.port, refused.port])) as tracer:
        play(wanted, [turns(2 * [(GET, OK)])])
        with socket.socket() as sock:
            assert sock.connect_ex(refused.address)
        rows = tracer.rows(2)
        other = rows_of_other_port(tracer, ports)
    failed = [failed_connect("ECONNREFUSED")] if role == "client" else []
    assert_seen(rows, [*(2 * Exchange(got=5, sides=(role,)).seen()), *failed])
    assert not other
