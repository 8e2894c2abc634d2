"""What times, ids and texts mean."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from .expected import Exchange, assert_seen, one_of
from .messages import CHUNKED, OK, request, response, swap, turns
from .peer import Peer, Place, Talk, fill
from .raw import (
    accepted,
    connected,
    in_child,
    listening,
    pause,
    play,
    recv,
    run_side,
    send,
    send_slowly,
    together,
)

if TYPE_CHECKING:
    from .stage import Stage
    from .tracer import Row

pytestmark = pytest.mark.root

GET = request()
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SLACK_NS = 2_000_000


def exchange(stage: Stage, talk: Talk, family: str = "v4", expect: int = 2) -> list[Row]:
    """Plays one connection; returns its rows."""
    place = stage.place(family)
    play(place, [talk])
    return stage.rows(place, expect)


def end_of(row: Row) -> int:
    return row["start_unix_ns"] + row["duration_ns"]


# --- times ----------------------------------------------------------------------------------------


def test_idle_before_the_request_is_no_latency(stage: Stage) -> None:
    rows = exchange(stage, Talk([pause(1.0), *swap(GET).client], swap(GET).server))
    for kind in ("client", "server"):
        assert one_of(rows, kind)["duration_ns"] < 0.5e9


def test_idle_between_requests_is_no_latency(stage: Stage) -> None:
    talk = swap(GET)
    rows = exchange(stage, Talk([*talk.client, pause(0.5), *talk.client], [*talk.server, *talk.server]), expect=4)
    assert len(rows) == 4
    assert max(row["duration_ns"] for row in rows) < 0.3e9


def test_server_time_is_in_both_durations(stage: Stage) -> None:
    rows = exchange(stage, Talk([send(GET), recv(len(OK))], [recv(len(GET)), pause(0.3), send(OK)]))
    for kind in ("client", "server"):
        row = one_of(rows, kind)
        assert 0.3e9 <= row["duration_ns"] < 0.6e9
        assert 0.3e9 <= row["first_byte_ns"] <= row["duration_ns"]


def test_request_body_time_is_in_both_durations(stage: Stage) -> None:
    ask = request("POST /slow", "Content-Length: 4")
    rows = exchange(
        stage, Talk([send(ask), pause(0.3), send(b"body"), recv(len(OK))], [recv(len(ask)), recv(4), send(OK)])
    )
    for kind in ("client", "server"):
        assert 0.3e9 <= one_of(rows, kind)["duration_ns"] < 0.6e9


@pytest.mark.parametrize("family", ["v4", "v6", "unix"])
def test_server_span_lies_within_the_client_span(stage: Stage, family: str) -> None:
    place = stage.place(family)
    play(place, 30 * [Talk([send(GET), recv(len(OK))], [recv(len(GET)), pause(0.002), send(OK)])])
    rows = sorted(stage.rows(place, 60), key=lambda row: row["start_unix_ns"])
    servers, clients = ([row for row in rows if row["kind"] == kind] for kind in ("server", "client"))
    assert len(servers) == len(clients) == 30
    for server, client in zip(servers, clients, strict=True):
        assert client["start_unix_ns"] <= server["start_unix_ns"]
        assert end_of(server) <= end_of(client) + SLACK_NS


def test_streamed_response_lasts_until_its_last_byte(stage: Stage) -> None:
    head, pieces = response("200 OK", CHUNKED, sized=False), [b"5\r\nhello\r\n"] * 10
    streamed = Talk(
        [send(GET), recv(len(head) + 105)], [recv(len(GET)), send(head), send_slowly(pieces, 0.31), send(b"0\r\n\r\n")]
    )
    rows = exchange(stage, streamed)
    assert_seen(rows, Exchange(got=50).seen())
    for row in rows:
        assert row["duration_ns"] >= 3.0e9
        assert row["first_byte_ns"] < 0.3e9


# --- calls that overlap ---------------------------------------------------------------------------

ROUNDS = 500


def numbered(i: int) -> tuple[bytes, bytes]:
    return request(f"GET /round/{i}"), response(body=b"x" * (i % 50))


def write_and_read_apart(peer: Peer) -> None:
    """One thread blocks in recv() while another writes: the answer may be there before the writer's call returns."""
    answered = threading.Semaphore(1)

    def write() -> None:
        for i in range(ROUNDS):
            answered.acquire()
            peer.sock.sendall(fill([numbered(i)[0]], peer.place)[0])

    def read() -> None:
        for i in range(ROUNDS):
            recv(len(numbered(i)[1]))(peer)
            answered.release()

    together(write, read)


@pytest.mark.parametrize("family", ["v4", "unix"])
def test_answer_that_overtakes_the_writer(stage: Stage, family: str) -> None:
    place = stage.place(family)
    with listening(place) as listener:
        pid = os.fork()
        if not pid:
            try:
                run_side(lambda: accepted(listener, place), turns(map(numbered, range(ROUNDS))).server)()
            finally:
                os._exit(0)
        run_side(lambda: connected(place), [write_and_read_apart])()
        os.waitpid(pid, 0)
    wanted = [Exchange(path=f"/round/{i}", got=i % 50) for i in range(ROUNDS)]
    assert_seen(stage.rows(place, 2 * ROUNDS), [row for one in wanted for row in one.seen()])


def test_many_connections_at_once(stage: Stage) -> None:
    places = [stage.place() for _ in range(8)]

    def work(place: Place) -> None:
        play(place, 5 * [turns([numbered(i) for i in range(20)])])

    together(*(partial(work, place) for place in places))
    wanted = [Exchange(path=f"/round/{i}", got=i) for i in range(20)]
    for place in places:
        assert_seen(stage.rows(place, 200), 5 * [row for one in wanted for row in one.seen()])


def test_process_of_each_exchange(stage: Stage) -> None:
    """The one that reads the request, on the server's side."""
    place = stage.place()
    server = [recv(len(GET)), send(OK), in_child(recv(len(GET)), send(OK))]
    play(place, [Talk([send(GET), recv(len(OK)), send(GET), recv(len(OK))], server)])
    rows = [row for row in stage.rows(place, 4) if row["kind"] == "server"]
    pids = [row["attributes"]["process.pid"] for row in sorted(rows, key=lambda row: row["start_unix_ns"])]
    assert pids == [os.getpid(), *place.children]


# --- ids ------------------------------------------------------------------------------------------

ACCEPTED = {
    "sampled": f"00-{TRACE}-{PARENT}-01",
    "not sampled": f"00-{TRACE}-{PARENT}-00",
    "later version": f"01-{TRACE}-{PARENT}-01",
    "later version with more": f"cc-{TRACE}-{PARENT}-01-what-the-future-holds",
    "blanks around": f"  00-{TRACE}-{PARENT}-01\t ",
}
IGNORED = {
    "version ff": f"ff-{TRACE}-{PARENT}-01",
    "upper case": f"00-{TRACE.upper()}-{PARENT}-01",
    "no trace id": f"00-{32 * '0'}-{PARENT}-01",
    "no parent id": f"00-{TRACE}-{16 * '0'}-01",
    "too short": f"00-{TRACE[:-1]}-{PARENT}-01",
    "not hexadecimal": f"00-{TRACE[:-1]}g-{PARENT}-01",
    "version 00 with more": f"00-{TRACE}-{PARENT}-01-more",
    "later version, more without a dash": f"01-{TRACE}-{PARENT}-01more",
    "empty": "",
    "twice": f"00-{TRACE}-{PARENT}-01\r\ntraceparent: 00-{TRACE}-{PARENT}-01",
}


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("name", ["traceparent", "TraceParent"])
def test_traceparent_is_the_parent_of_the_client_and_that_of_the_server(stage: Stage, name: str, value: str) -> None:
    rows = exchange(stage, swap(request("GET /", f"{name}: {value}")))
    assert_seen(rows, Exchange(got=5).seen())
    client, server = sorted(rows, key=lambda row: row["kind"])
    assert (client["trace_id"], client["parent_span_id"]) == (TRACE, PARENT)
    assert (server["trace_id"], server["parent_span_id"]) == (TRACE, client["span_id"])
    assert len({row["span_id"] for row in rows} | {PARENT}) == 3


@pytest.mark.parametrize("value", IGNORED.values(), ids=IGNORED)
def test_invalid_traceparent_is_ignored(stage: Stage, value: str) -> None:
    rows = exchange(stage, swap(request("GET /", f"traceparent: {value}")))
    assert_seen(rows, Exchange(got=5).seen())
    for row in rows:
        assert row["trace_id"] != TRACE
        assert row["parent_span_id"] != PARENT


def test_traceparent_in_a_response_or_a_body_is_none(stage: Stage) -> None:
    field = f"traceparent: 00-{TRACE}-{PARENT}-01"
    rows = exchange(stage, swap(request("POST /", body=f"\r\n{field}\r\n".encode()), response("200 OK", field)))
    assert len(rows) == 2
    assert TRACE not in {row["trace_id"] for row in rows}


def test_ids_without_traceparent_are_distinct(stage: Stage) -> None:
    rows = exchange(stage, turns(50 * [(GET, OK)]), expect=100)
    assert len(rows) == 100
    for kind in ("client", "server"):
        assert len({row["trace_id"] for row in rows if row["kind"] == kind}) == 50
    assert len({row["span_id"] for row in rows}) == 100


# --- texts ----------------------------------------------------------------------------------------

SECRET = "s3cr3t"
SECRETIVE = {
    "query values": request(
        f"GET /q?ok=visible&token={SECRET}&password={SECRET}&X-Goog-Signature={SECRET}&sig={SECRET}"
    ),
    "cloud signatures": request(
        f"GET /q?AWSAccessKeyId={SECRET}&Signature={SECRET}&X-Amz-Signature={SECRET}&ok=visible"
    ),
    "names of other forms": request(f"GET /q?access_token={SECRET}&api_key={SECRET}&client_secret={SECRET}&ok=visible"),
    "upper case": request(f"GET /q?TOKEN={SECRET}&Password={SECRET}&ok=visible"),
    "encoded name": request(f"GET /q?to%6ben={SECRET}&pass%77ord={SECRET}&ok=visible"),
    "semicolons": request(f"GET /q?ok=visible;token={SECRET};password={SECRET}"),
    "userinfo": request(f"GET http://user:{SECRET}@127.0.0.1:@PORT/visible"),
    "user alone": request(f"GET http://{SECRET}@127.0.0.1:@PORT/visible"),
    "userinfo and query": request(f"GET http://u:{SECRET}@127.0.0.1:@PORT/q?token={SECRET}&ok=visible"),
    "absolute form in a query": request(f"GET /visible?next=http://u:{SECRET}@example.com/"),
    "headers": request(
        "GET /visible", f"Authorization: Basic {SECRET}", f"Cookie: id={SECRET}", f"X-Api-Key: {SECRET}"
    ),
    "body": request("POST /visible", body=f"password={SECRET}".encode()),
    "secret at the cut": request(f"GET /visible?pad={'p' * 600}&token={SECRET * 20}"),
}


def printed_of(stage: Stage, ask: bytes) -> tuple[list[Row], str]:
    """The rows of one exchange, and all that was printed meanwhile."""
    before = len(stage.tcp.stdout())
    rows = exchange(stage, swap(ask))
    return rows, stage.tcp.stdout()[before:]


@pytest.mark.parametrize("ask", SECRETIVE.values(), ids=SECRETIVE)
def test_secrets_are_not_printed(stage: Stage, ask: bytes) -> None:
    rows, printed = printed_of(stage, ask)
    assert len(rows) == 2
    assert "visible" in printed
    assert SECRET not in printed


def test_userinfo_beyond_the_cut_is_not_printed(stage: Stage) -> None:
    """Of a target that is cut within its userinfo, what is left has no @ to tell it by."""
    _, printed = printed_of(stage, request(f"GET http://user:{SECRET * 200}@127.0.0.1:@PORT/x"))
    assert '"GET"' in printed
    assert SECRET not in printed


CUTS = {
    "path": ("/" + 700 * "a", "url.path"),
    "query": ("/p?q=" + 700 * "a", "url.query"),
}


@pytest.mark.parametrize(("target", "named"), CUTS.values(), ids=CUTS)
def test_long_target_is_cut_and_said_to_be(stage: Stage, target: str, named: str) -> None:
    rows = exchange(stage, swap(request(f"GET {target}")))
    server, client = one_of(rows, "server"), one_of(rows, "client")
    assert server["truncated"] == [named]
    assert client["truncated"] == ["url.full"]
    path, _, query = target[:640].partition("?")
    assert server["attributes"]["url.path"] == path
    assert server["attributes"].get("url.query", "") == query
    assert client["attributes"]["url.full"].endswith(target[:640])


def test_longest_whole_target(stage: Stage) -> None:
    target = "/" + 639 * "b"
    rows = exchange(stage, swap(request(f"GET {target}")))
    assert [row["truncated"] for row in rows] == [[], []]
    assert one_of(rows, "server")["attributes"]["url.path"] == target


def test_long_values_are_cut_and_said_to_be(stage: Stage) -> None:
    rows = exchange(stage, swap(request(f"{'M' * 40} /", f"User-Agent: {300 * 'u'}")))
    server = one_of(rows, "server")
    assert sorted(server["truncated"]) == ["http.request.method_original", "user_agent.original"]
    assert server["attributes"]["user_agent.original"] == 192 * "u"
    assert server["attributes"]["http.request.method_original"] == 32 * "M"


@pytest.mark.parametrize("most", [1 << 20, 100])
def test_user_agent_deep_in_the_head(stage: Stage, most: int) -> None:
    ask = request(
        "GET /deep",
        *(f"X-Pad-{i}: {'p' * 1000}" for i in range(10)),
        "User-Agent: deep/1.0 (ten kilobytes)",
        *(f"X-{i}: v" for i in range(20)),
    )
    rows = exchange(stage, Talk([send(ask), recv(len(OK))], [recv(len(ask), most), send(OK)]))
    assert_seen(rows, Exchange(path="/deep", got=5).seen())
    assert one_of(rows, "server")["attributes"]["user_agent.original"] == "deep/1.0 (ten kilobytes)"


ATTRIBUTES = {
    "v4": ("127.0.0.1", "tcp"),
    "v6": ("::1", "tcp"),
}


@pytest.mark.parametrize("family", ATTRIBUTES)
def test_addresses(stage: Stage, family: str) -> None:
    address, transport = ATTRIBUTES[family]
    place = stage.place(family)
    host = f"[{address}]" if ":" in address else address
    play(place, [swap(request("GET /a?b=c", "User-Agent: raw/1", host=f"{host}:@PORT".encode()))])
    rows = stage.rows(place, 2)
    server, client = (one_of(rows, kind)["attributes"] for kind in ("server", "client"))
    assert client["url.full"] == f"http://{host}:{place.port}/a?b=c"
    assert (server["url.scheme"], server["url.path"], server["url.query"]) == ("http", "/a", "b=c")
    assert server["user_agent.original"] == "raw/1"
    assert server["client.address"] == server["network.peer.address"] == address
    assert client["network.peer.address"] == address
    assert client["network.peer.port"] == place.port
    assert server["network.peer.port"] != place.port
    for attributes in (server, client):
        assert attributes["server.address"] == address
        assert attributes["server.port"] == place.port
        assert attributes.get("network.transport", "tcp") == transport
        assert attributes["network.protocol.version"] == "1.1"
        assert attributes["process.pid"] == os.getpid()


def test_server_named_by_the_host_field(stage: Stage) -> None:
    rows = exchange(stage, swap(request("GET /", host=b"Shop.example:@PORT")))
    for row in rows:
        assert row["attributes"]["server.address"].lower() == "shop.example"
    assert one_of(rows, "client")["attributes"]["network.peer.address"] == "127.0.0.1"


def test_protocol_version_1_0(stage: Stage) -> None:
    rows = exchange(stage, swap(request(version="1.0"), response(version="1.0")))
    assert [row["attributes"]["network.protocol.version"] for row in rows] == ["1.0", "1.0"]


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_unix_socket_is_visible(stage: Stage, abstract: bool) -> None:
    path = f"\0ringspan-test-{os.getpid()}" if abstract else stage.place("unix").path
    place = Place("unix", 10000, path)
    play(place, [swap(request("GET /over/unix?x=1", host=b""))])
    shown = path.replace("\0", "@")
    rows = stage.unix.rows(2, where=lambda row: shown in str(row["attributes"]))
    assert_seen(rows, Exchange(path="/over/unix", got=5).seen())
    for row in rows:
        attributes = row["attributes"]
        assert attributes["network.transport"] == "unix"
        assert attributes["server.address"] == shown
    assert one_of(rows, "client")["attributes"]["network.peer.address"] == shown
