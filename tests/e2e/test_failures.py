"""Failures, each with its reason on the side that met it, and with no status that was not received."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from . import attempts
from .expected import Exchange, Seen, assert_seen, failed_connect, one_of
from .messages import CHUNKED, OK, request, response, swap
from .peer import Place, Script, Step, Talk
from .raw import (
    accepted,
    await_told,
    close,
    die,
    half_close,
    handed_over,
    listening,
    pause,
    play,
    recv,
    recv_any_end,
    recv_end,
    recv_reset,
    reset,
    run_side,
    send,
    tell,
    together,
)
from .table import Case, Outcome, Playable, case, play_all, selected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stage import Stage

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Connect:
    """Attempts to connect, and what is to be seen of them."""

    name: str
    attempt: attempts.Attempt
    errors: tuple[str, ...]
    family: str = "v4"
    slow: bool = False

    def play(self, place: Place) -> None:
        self.attempt(place)

    def wanted(self) -> list[Seen]:
        return [failed_connect(error) for error in self.errors]


REFUSED = ("ECONNREFUSED",)
CONNECTS = [
    Connect("refused", attempts.blocking(errno.ECONNREFUSED), REFUSED),
    Connect("refused, v6", attempts.blocking(errno.ECONNREFUSED), REFUSED, "v6"),
    Connect("refused, nonblocking", attempts.nonblocking_refused, REFUSED),
    Connect("refused, nonblocking, v6", attempts.nonblocking_refused, REFUSED, "v6"),
    Connect("refused, asked for by a second connect()", attempts.polled_by_connect, REFUSED),
    Connect("refused three times on one socket", attempts.blocking(errno.ECONNREFUSED, times=3), 3 * REFUSED),
    Connect("cancelled after 50 ms", attempts.given_up_after(0.05), ("cancelled",)),
    Connect("cancelled, polled by connect()", attempts.polled_while_pending, ("cancelled",)),
    Connect("cancelled by SO_SNDTIMEO", attempts.blocking_with_send_timeout, ("cancelled",)),
    Connect("cancelled by SIGKILL", attempts.killed_while_connecting, ("cancelled",)),
    Connect("given up after a SYN was sent again", attempts.given_up_after(2.0), ("timeout",), slow=True),
    Connect("given up after a SYN was sent again, v6", attempts.given_up_after(2.0), ("timeout",), "v6", slow=True),
    Connect("given up by the kernel", attempts.kernel_gives_up, ("timeout",), slow=True),
    Connect("given up by the kernel, nonblocking", attempts.kernel_gives_up_nonblocking, ("timeout",), slow=True),
    Connect("address not available", attempts.same_addresses_twice, ("EADDRNOTAVAIL",)),
    Connect("address not available, v6", attempts.same_addresses_twice, ("EADDRNOTAVAIL",), "v6"),
    Connect("unix, no such path", attempts.blocking(errno.ENOENT), ("ENOENT",), "unix"),
    Connect("unix, refused", attempts.unix_stale, REFUSED, "unix"),
    Connect("unix, queue full", attempts.unix_queue_full, ("EAGAIN",), "unix"),
    Connect("UDP is no attempt", attempts.datagram, ()),
    Connect("AF_UNSPEC is no attempt", attempts.disconnected, ()),
]
NAMESPACED = [
    Connect("no route", attempts.in_namespace(attempts.NO_ROUTE, errno.ENETUNREACH), ("ENETUNREACH",)),
    Connect("no route, v6", attempts.in_namespace("2001:db8::1", errno.ENETUNREACH), ("ENETUNREACH",), "v6"),
    Connect("host unreachable", attempts.in_namespace(attempts.UNREACHABLE, errno.EHOSTUNREACH), ("EHOSTUNREACH",)),
    Connect(
        "host unreachable, v6",
        attempts.in_namespace(attempts.UNREACHABLE_V6, errno.EHOSTUNREACH),
        ("EHOSTUNREACH",),
        "v6",
    ),
    Connect("route prohibited", attempts.in_namespace(attempts.PROHIBITED, errno.EACCES), ("EACCES",)),
    Connect(
        "ports exhausted", attempts.in_namespace("127.0.0.1", errno.EADDRNOTAVAIL, attempts.EXHAUST), ("EADDRNOTAVAIL",)
    ),
]

GET = request()
CUT = response("200 OK", "Content-Length: 100", sized=False) + b"0123456789"
CUT_CHUNKED = response("200 OK", CHUNKED, sized=False) + b"5\r\nhello\r\n5\r\nwo"
CUT_POST = request("POST /cut", "Content-Length: 10") + b"01234"
TOLD = [tell("told")]


def serve(*steps: Step) -> Script:
    """What a server does once it has the request."""
    return [recv(len(GET)), *steps]


def both(error: str, status: int | None = None, got: int = 0, **more: object) -> Exchange:
    return Exchange(status=status, got=got, error=error, **more)  # type: ignore[arg-type]


def unanswered(family: str) -> list[Case]:
    """Requests that get no whole response; `family` is v4, v6 or unix."""
    extra = "" if family == "v4" else f", {family}"
    talks = {
        "server closes without an answer": (Talk([send(GET), recv_end], serve(close)), both("connection_closed")),
        "client leaves first": (Talk([send(GET), close], serve(recv_end)), both("client_closed")),
        "client leaves, server never reads its end": (
            Talk(
                [send(GET), await_told("told"), close, tell("left")],
                serve(*TOLD, await_told("left"), pause(0.1), close),
            ),
            both("client_closed"),
        ),
        "half-close, and no answer": (
            Talk([send(GET), half_close, recv_end], serve(recv_end, close)),
            Exchange(status=None, error=("client_closed", "connection_closed")),
        ),
        "response cut": (Talk([send(GET), recv(len(CUT)), recv_end], serve(send(CUT))), both("incomplete", 200, 10)),
        "chunked response cut": (
            Talk([send(GET), recv(len(CUT_CHUNKED)), recv_end], serve(send(CUT_CHUNKED))),
            both("incomplete", 200, 7),
        ),
        "chunked response without its last chunk": (
            Talk([send(GET), recv(len(CUT_CHUNKED) - 5), recv_end], serve(send(CUT_CHUNKED[:-5]))),
            both("incomplete", 200, 5),
        ),
        "client leaves within the response": (
            Talk([send(GET), recv(len(CUT)), close], serve(send(CUT), recv_end)),
            both("incomplete", 200, 10),
        ),
        "status line cut": (
            Talk([send(GET), recv(11), recv_end], serve(send(b"HTTP/1.1 20"))),
            both("connection_closed"),
        ),
        "head cut after the status line": (
            Talk([send(GET), recv(27), recv_end], serve(send(b"HTTP/1.1 200 OK\r\nContent-Le"))),
            both("incomplete", 200),
        ),
        "only 100 Continue": (
            Talk([send(GET), recv(25), recv_end], serve(send(b"HTTP/1.1 100 Continue\r\n\r\n"))),
            both("connection_closed"),
        ),
        "request cut": (
            Talk([send(CUT_POST), close], [recv(len(CUT_POST)), recv_end]),
            both("client_closed", method="POST", path="/cut", sent=5),
        ),
        "request cut, answered 400": (
            Talk(
                [send(CUT_POST), half_close, recv(len(response("400 Bad Request"))), recv_end],
                [recv(len(CUT_POST)), recv_end, send(response("400 Bad Request"))],
            ),
            Exchange("POST", "/cut", 400, sent=5),
        ),
        "killed while serving": (
            Talk([send(GET), recv_end], [handed_over(recv(len(GET)), die)]),
            both("connection_closed"),
        ),
        "killed while answering": (
            Talk([send(GET), recv(len(CUT)), recv_end], [handed_over(recv(len(GET)), send(CUT), die)]),
            both("incomplete", 200, 10),
        ),
        "killed while requesting": (
            Talk([handed_over(send(GET), pause(0.2), die)], serve(recv_end)),
            both("client_closed"),
        ),
    }
    return [case(name + extra, talk, row, family=family) for name, (talk, row) in talks.items()]


NO_HTTP = {
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTML with no head": b"<html>hello</html>",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n\r\n",
    "status of letters": b"HTTP/1.1 2xx OK\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
}
EXCHANGES = [
    *unanswered("v4"),
    *unanswered("unix"),
    case(
        "server resets",
        Talk([send(GET), recv_reset], serve(reset)),
        Exchange(status=None, error=("connection_closed", "ECONNRESET")),
    ),
    case(
        "server resets, v6",
        Talk([send(GET), recv_reset], serve(reset)),
        Exchange(status=None, error=("connection_closed", "ECONNRESET")),
        family="v6",
    ),
    case(
        "server closes with bytes unread",
        Talk([send(GET), recv_reset], [recv(5), close]),
        Exchange(status=None, error="ECONNRESET", sides=("client",)),
    ),
    case(
        "client resets", Talk([send(GET), await_told("told"), reset], serve(*TOLD, recv_reset)), both("client_closed")
    ),
    case(
        "response cut by a reset",
        Talk([send(GET), recv(len(CUT)), *TOLD, recv_reset], serve(send(CUT), await_told("told"), reset)),
        both("incomplete", 200, 10),
    ),
    case(
        "pipelined, one answered",
        Talk([send(3 * GET), recv(len(OK)), recv_end], [recv(3 * len(GET)), send(OK)]),
        Exchange(got=5),
        both("connection_closed"),
        both("connection_closed"),
    ),
    case(
        "pipelined, then the client leaves",
        Talk([send(3 * GET), recv(len(OK)), close], [recv(3 * len(GET)), send(OK), recv_end]),
        Exchange(got=5),
        both("client_closed"),
        both("client_closed"),
    ),
    case("idle, server closes", Talk([send(GET), recv(len(OK)), recv_end], serve(send(OK), pause(0.05), close))),
    case("idle, client closes", Talk([send(GET), recv(len(OK)), close], serve(send(OK), recv_end))),
    case(
        "idle, server resets",
        Talk([send(GET), recv(len(OK)), *TOLD, recv_reset], serve(send(OK), await_told("told"), reset)),
    ),
    case("idle, client resets", Talk([send(GET), recv(len(OK)), reset], serve(send(OK), recv_reset))),
    case("idle, killed", Talk([send(GET), recv(len(OK)), recv_end], [recv(len(GET)), send(OK), handed_over(die)])),
    Case(
        "connected and closed, no request",
        (Talk([], [recv_end]), Talk([recv_end], []), Talk([recv_reset], [pause(0.05), reset])),
        (),
    ),
    Case("half a request line, then closed", (Talk([send(b"GET /some")], [recv(9), recv_end]),), ()),
    *(case(f"no HTTP answer: {name}", swap(GET, answer), both("invalid_response")) for name, answer in NO_HTTP.items()),
]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, stage: Stage) -> dict[str, Outcome]:
    return play_all(selected(request), stage)


CASES: list[Playable] = [*CONNECTS, *EXCHANGES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Playable, outcomes: dict[str, Outcome], stage: Stage) -> None:
    outcomes[case.name].check(stage)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    if not attempts.has_ip():
        pytest.skip("needs iproute2")
    with attempts.namespace():
        yield


@pytest.mark.parametrize("connect", NAMESPACED, ids=lambda connect: connect.name)
def test_in_another_network(connect: Connect, stage: Stage, network: None) -> None:
    place = stage.place(connect.family)
    connect.play(place)
    assert_seen(stage.rows(place, 1), connect.wanted())


def test_v6_refused_then_v4(stage: Stage) -> None:
    """Happy Eyeballs: the failed attempt and the good exchange are both there, and apart."""
    place = stage.place()
    six = Place("v6", place.port)
    attempts.blocking(errno.ECONNREFUSED)(six)
    play(place, [swap(GET)])
    rows = stage.rows(place, 3)
    assert_seen(rows, [failed_connect("ECONNREFUSED"), *Exchange(got=5).seen()])
    (failed,) = [row for row in rows if row["name"] == "tcp connect"]
    assert failed["attributes"]["server.address"] == failed["attributes"]["network.peer.address"] == "::1"
    assert (
        one_of([row for row in rows if row is not failed], "client")["attributes"]["network.peer.address"]
        == "127.0.0.1"
    )


def test_request_on_a_connection_that_was_closed(stage: Stage) -> None:
    """A client that reuses an idle connection too late: a second exchange for it alone, and no status."""
    place = stage.place()
    play(
        place,
        [Talk([send(GET), recv(len(OK)), pause(0.1), send(GET), pause(0.1), recv_any_end], serve(send(OK), close))],
    )
    first, second = sorted(
        (row for row in stage.rows(place, 3) if row["kind"] == "client"), key=lambda row: row["start_unix_ns"]
    )
    assert first["status"] == "unset"
    assert second["attributes"]["error.type"] in ("ECONNRESET", "connection_closed")
    assert "http.response.status_code" not in second["attributes"]


def test_duration_of_a_failed_connect(stage: Stage) -> None:
    place = stage.place()
    attempts.given_up_after(0.3)(place)
    row = one_of(stage.rows(place, 1), "client")
    assert 0.29e9 < row["duration_ns"] < 1e9
    assert row["first_byte_ns"] is None
    assert "http.response.status_code" not in row["attributes"]
    assert "http.request.method" not in row["attributes"]


def test_a_pending_connect_that_succeeds_is_no_failure(stage: Stage) -> None:
    """Asked for by connect() until it is there; the exchange that follows is seen from its first byte."""
    place = stage.place()
    with listening(place) as listener:
        together(
            run_side(lambda: accepted(listener, place), swap(GET).server),
            run_side(lambda: attempts.connected_by_polling(place), swap(GET).client),
        )
    assert_seen(stage.rows(place, 2), Exchange(got=5).seen())


def test_names_of_cases_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
