"""Streams that are nearly valid: cut anywhere they are read as when whole, and as h11 and llhttp read them where both do."""

from __future__ import annotations

from typing import Any, NamedTuple

import h11
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unit import llhttp
from unit.harness import CLIENT, CLOSE, EGRESS, INGRESS, PEER_FIN, SERVER, Connection, text
from unit.test_differential import Messages, messages, move, read_message
from unit.test_exchanges import described

TOKENS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\r\n\r\n", b"0\r\n\r\n", b"Content-Length: 3\r\n", b",",
        b"Content-Length: 3, 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
        b"Host: b\r\n", b"User-Agent: u\r\n", b"tracestate: t\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Up\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n", b"00", b"g", b":", b";x",
    ]
)  # fmt: skip
AGREED_MIN = 60  # of 400: where the others differ, or refuse, nothing is said
SETTINGS = settings(max_examples=400, deadline=None, derandomize=True, database=None)
GROUPS = st.lists(st.lists(messages(), min_size=1, max_size=3), min_size=1, max_size=3)


class Mutation(NamedTuple):
    """A change of a stream: so many bytes from here, or from where the next line begins, give way to others."""

    at: float
    at_line: bool
    drop: int
    put: bytes


MUTATIONS = st.lists(
    st.builds(Mutation, st.floats(0, 1), st.booleans(), st.sampled_from([0, 0, 1, 2, 7]), st.just(b"") | TOKENS),
    max_size=3,
)
LINES = st.sampled_from(
    [
        b"X: y\r\n", b"x:\ty \r\n", b"Accept:\r\n", b"User-Agent: u\r\n", b"tracestate: a\r\n", b"Content-Length : 3\r\n",
        b"Expect: 100-continue\r\n", b"X: y\n", b"Contents: HTTP/1.1 200\r\n", b"Transfer: chunked\r\n", b"X-Host: b\r\n",
    ]
)  # fmt: skip
MILD = st.lists(
    st.builds(Mutation, st.floats(0, 1), st.just(True), st.just(0), LINES)
    | st.builds(Mutation, st.floats(0, 1), st.booleans(), st.sampled_from([0, 1]), TOKENS),
    min_size=1,
    max_size=2,
)
# llhttp takes no methods but those it knows, and cannot be told what a response answers.
GROUP = st.lists(messages(st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "MKCOL"])), min_size=1, max_size=3)


def mutated(data: bytes, mutations: list[Mutation]) -> bytes:
    for at, at_line, drop, put in mutations:
        place = int(at * len(data))
        if at_line:
            place = data.find(b"\n", place) + 1
        data = data[:place] + put + data[place + drop :]
    return data


class Turn(NamedTuple):
    """What passes in one direction before the other answers."""

    is_response: bool
    data: bytes


def turns(groups: list[list[Messages]], mutations: list[list[Mutation]]) -> list[Turn]:
    valid = [
        Turn(is_response, b"".join(exchange[is_response] for exchange in group))
        for group in groups
        for is_response in (False, True)
    ]
    changes = [*mutations, *([] for _ in valid)]
    return [turn._replace(data=mutated(turn.data, change)) for turn, change in zip(valid, changes, strict=False)]


class Read(NamedTuple):
    """What came of a stream, by where each request begins; and why something may be missing."""

    records: dict[int, dict[str, Any]]
    reasons: dict[str, int]


def read(role: int, born: bool, stream: list[Turn], cuts: list[int], piece: int) -> Read:
    connection = Connection(role if born else 0, born=born)
    for turn in stream:
        direction = INGRESS if turn.is_response == (role == CLIENT) else EGRESS
        move(connection, direction, turn.data, cuts, piece)
    off = connection.off
    connection.end(PEER_FIN)
    connection.end(CLOSE)
    assert connection.in_flight == 0
    counters = connection.counters()
    lost = {name: number for name, number in counters.items() if name not in ("seen", "recorded")}
    assert counters.get("seen", 0) == counters.get("recorded", 0) + counters.get("lost_desync", 0)
    records = {int(record["tcp_seq"]): described(record) for record in connection.records()}
    assert len(records) == counters.get("recorded", 0)
    return Read(records, lost | ({"off": 1} if off else {}))


@SETTINGS
@given(
    groups=GROUPS,
    mutations=st.lists(MUTATIONS, max_size=4),
    cuts=st.lists(st.integers(0, 1_000_000), min_size=1, max_size=8),
    piece=st.sampled_from([0, 0, 1, 50]),
    role=st.sampled_from([SERVER, CLIENT]),
)
def test_any_split_gives_the_same_records(
    groups: list[list[Messages]], mutations: list[list[Mutation]], cuts: list[int], piece: int, role: int
) -> None:
    """What one reading has and the other has not, the other has lost, and says so; no record differs."""
    stream = turns(groups, mutations)
    whole, split = read(role, True, stream, [], 0), read(role, True, stream, cuts, piece)
    both = whole.records.keys() & split.records.keys()
    assert {at: whole.records[at] for at in both} == {at: split.records[at] for at in both}
    for one, other in ((whole, split), (split, whole)):
        assert one.records.keys() <= other.records.keys() or other.reasons


def requests_by_h11(data: bytes) -> list[tuple[bytes, bytes, int]] | None:
    reader, found = h11.Connection(h11.SERVER), []
    reader.receive_data(data)
    try:
        while reader.trailing_data[0] or not found:
            head, size = read_message(reader)
            found.append((head.method, head.target, size))
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
    except (h11.ProtocolError, AssertionError):
        return None
    return found


def responses_by_h11(data: bytes, number: int) -> list[tuple[int, int]] | None:
    found = []
    try:
        for _ in range(number):
            reader = h11.Connection(h11.CLIENT)
            reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
            reader.send(h11.EndOfMessage())
            reader.receive_data(data)
            head, size = read_message(reader)
            found.append((head.status_code, size))
            data = reader.trailing_data[0]
    except (h11.ProtocolError, AssertionError):
        return None
    return found


def read_by_us(role: int, requests: bytes, responses: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    connection = Connection(role)
    asking, answering = (INGRESS, EGRESS) if role == SERVER else (EGRESS, INGRESS)
    connection.call(asking, requests)
    connection.call(answering, responses)
    assert not connection.in_flight
    return connection.records()


def test_odd_requests_are_read_as_both_others_read_them() -> None:
    agreed = []

    @SETTINGS
    @given(GROUP, MILD, st.sampled_from([SERVER, CLIENT]))
    def read_alike(group: list[Messages], change: list[Mutation], role: int) -> None:
        data = mutated(b"".join(exchange.request for exchange in group), change)
        expected = requests_by_h11(data)
        if not expected or llhttp.requests(data) != expected:
            return
        found = read_by_us(role, data, b"HTTP/1.1 204 No\r\n\r\n" * len(expected))
        assert [(text(r, "method"), text(r, "target"), int(r["request_body_bytes"])) for r in found] == expected
        agreed.append(data)

    read_alike()
    assert len(agreed) > AGREED_MIN


def test_odd_responses_are_read_as_both_others_read_them() -> None:
    agreed = []

    @SETTINGS
    @given(GROUP, MILD, st.sampled_from([SERVER, CLIENT]))
    def read_alike(group: list[Messages], change: list[Mutation], role: int) -> None:
        data = mutated(b"".join(exchange.response for exchange in group), change)
        expected = llhttp.responses(data)
        if not expected or responses_by_h11(data, len(expected)) != expected:
            return
        found = read_by_us(role, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * len(expected), data)
        assert [(int(r["status"]), int(r["response_body_bytes"])) for r in found] == expected
        agreed.append(data)

    read_alike()
    assert len(agreed) > AGREED_MIN
