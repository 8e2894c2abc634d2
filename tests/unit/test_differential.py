"""Random streams of valid messages: the records must agree with what h11 and llhttp read from the same bytes.

RINGSPAN_DIFFERENTIAL_EXAMPLES=100000 is the long form, with streams that no run before has had.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

import h11
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unit import llhttp
from unit.harness import CLIENT, EGRESS, INGRESS, SERVER, Connection, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = int(os.environ.get("RINGSPAN_DIFFERENTIAL_EXAMPLES", "400"))
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NAMES = ["X", "Hostess", "Content-Type", "Content-Lengthy", "Transfer", "Trace", "Accept-Encoding", "C", "User"]
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60).map(str.encode)
TARGET = st.text("/abc?&=%.HTTP/1.1;", min_size=1, max_size=80).map(lambda path: b"/" + path.encode())
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]) | st.text(TOKEN, min_size=1, max_size=20)
BODY = st.binary(max_size=200) | st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"x" * 5000])
FINAL = st.sampled_from([200, 201, 204, 206, 302, 304, 400, 404, 500, 503])


class Exchanged(NamedTuple):
    """What both readers must find."""

    method: bytes
    target: bytes
    request_bytes: int
    status: int
    response_bytes: int


class Messages(NamedTuple):
    """One exchange as bytes."""

    request: bytes
    response: bytes


def framed(draw: Callable[..., object], body: bytes) -> bytes:
    """Return a message's framing fields, other fields, the end of its head, and its body."""
    fields = [
        name.encode() + b": " + value
        for name, value in draw(st.lists(st.tuples(st.sampled_from(NAMES), VALUE), max_size=4))
    ]
    if draw(st.booleans()):
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
        parts = [body[i:j] for i, j in zip([0, *cuts], [*cuts, len(body)], strict=True) if i < j]
        extension = draw(st.sampled_from([b"", b";a", b";a=b"]))
        framing, trailer = b"Transfer-Encoding: chunked", draw(st.sampled_from([b"", b"X-Sum: 1\r\n"]))
        data = (
            b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n" + trailer + b"\r\n"
        )
    else:
        framing, data = b"Content-Length: %d" % len(body), body
    fields.insert(draw(st.integers(0, len(fields))), framing)
    return b"\r\n".join((*fields, b"", b"")) + data


@st.composite
def messages(draw: Callable[..., object], methods: st.SearchStrategy[str] = METHOD) -> Messages:
    method = draw(methods).encode()
    if method == b"CONNECT":
        method = b"CONNECTED"
    request = method + b" " + draw(TARGET) + b" HTTP/1.1\r\nHost: a.example\r\n"
    request += framed(draw, draw(BODY)) if draw(st.booleans()) else b"\r\n"
    status, interim = draw(FINAL), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * draw(st.integers(0, 1))
    head = interim + b"HTTP/1.1 %d Reason of it\r\n" % status
    if method == b"HEAD" or status in (204, 304):
        response = head + (b"Content-Length: 7\r\n\r\n" if status != 204 else b"\r\n")
    else:
        response = head + framed(draw, draw(BODY))
    return Messages(request, response)


def read_message(reader: h11.Connection) -> tuple[h11.Request | h11.Response, int]:
    """Return a message's head, interim ones passed over, and how many bytes its body has."""
    head, size = reader.next_event(), 0
    while isinstance(head, h11.InformationalResponse):
        head = reader.next_event()
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        size += len(event.data)
    return head, size


def read_by_h11(exchanges: list[Messages]) -> Iterator[Exchanged]:
    """Read all requests as one stream, and all responses as another."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"".join(exchange.request for exchange in exchanges))
    answers = b"".join(exchange.response for exchange in exchanges)
    for _ in exchanges:
        request, request_bytes = read_message(server)
        server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        server.send(h11.EndOfMessage())
        server.start_next_cycle()
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=request.method, target=request.target, headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answers)
        response, response_bytes = read_message(client)
        answers = client.trailing_data[0]
        yield Exchanged(request.method, request.target, request_bytes, response.status_code, response_bytes)


def read_by_us(connection: Connection) -> list[Exchanged]:
    return [
        Exchanged(
            text(record, "method"),
            text(record, "target"),
            int(record["request_body_bytes"]),
            int(record["status"]),
            int(record["response_body_bytes"]),
        )
        for record in connection.records()
    ]


def move(connection: Connection, direction: int, data: bytes, cuts: list[int], piece: int) -> None:
    """Move bytes by calls that are cut anywhere, each in pieces of one size, the last shorter; 0: plainly."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        part = data[begin:end]
        pieces = [len(part[i : i + piece]) for i in range(0, len(part), piece)] if piece else []
        connection.call(direction, part, pieces)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 400,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # whatever else the machine does
)
@given(
    groups=st.lists(st.lists(messages(), min_size=1, max_size=5), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 1_000_000), max_size=8),
    piece=st.sampled_from([0, 0, 50, 333, 4096]),
    role=st.sampled_from([SERVER, CLIENT]),
    born=st.booleans(),
)
def test_agrees_with_h11(groups: list[list[Messages]], cuts: list[int], piece: int, role: int, born: bool) -> None:
    connection = Connection(role) if born else Connection(born=False)
    requests, responses = (INGRESS, EGRESS) if role == SERVER else (EGRESS, INGRESS)
    for group in groups:
        move(connection, requests, b"".join(exchange.request for exchange in group), cuts, piece)
        move(connection, responses, b"".join(exchange.response for exchange in group), cuts, piece)
    expected = [found for group in groups for found in read_by_h11(group)]
    assert llhttp.requests(b"".join(exchange.request for group in groups for exchange in group)) in (
        [(found.method, found.target, found.request_bytes) for found in expected],
        None,  # it knows a list of methods
    )
    assert read_by_us(connection) == expected
    assert connection.counters() == {"seen": len(expected), "recorded": len(expected)}
    assert connection.in_flight == 0
