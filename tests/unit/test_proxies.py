"""Who the client is behind proxies: as far as those who say so are trusted, and never by the word of one who is not."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ringspan import contract
from ringspan.clock import Clock
from ringspan.config import merge
from ringspan.errors import UsageError
from ringspan.model import Identity, Span
from ringspan.protocols import http1
from ringspan.proxies import Proxies
from ringspan.spans import SpanMaker

from .harness import INGRESS, SERVER, Connection, library, text
from .rows import CLIENT, row

TRUSTED = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"]
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def client(said: bytes, source: str, trusted: list[str] = TRUSTED, **more: Any) -> tuple[str, int | None] | None:
    found = Proxies(trusted, source).client(row(forwarded=said, forwarded_bytes=len(said), **more))
    return tuple(found) if found else None


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (b"203.0.113.7", ("203.0.113.7", None)),
        (b"6.6.6.6, 203.0.113.7", ("203.0.113.7", None)),  # what the client itself has sent comes first
        (b"203.0.113.7, 10.1.1.1,10.2.2.2", ("203.0.113.7", None)),
        (b"10.1.1.1, 10.2.2.2", ("10.1.1.1", None)),  # all are trusted: the first
        (b"203.0.113.7:4711, 10.2.2.2:80", ("203.0.113.7", 4711)),
        (b"2001:db8::7, 10.2.2.2", ("2001:db8::7", None)),
        (b"[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        (b"::ffff:203.0.113.7", ("203.0.113.7", None)),
        (b"203.0.113.7, unknown", None),
        (b"203.0.113.7, _hidden, 10.2.2.2", None),
        (b"203.0.113.7, ", None),
        (b"203.0.113.7:99999, 10.2.2.2", None),
        (b"fe80::1%evil<script>", None),
        (b"203.0.113.7, fe80::1%eth0, 10.2.2.2", None),
        (b"evil.example", None),
        (b"203.0.113.7, 10.0.0.300", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_x_forwarded_for(said: bytes, want: Any) -> None:
    assert client(said, "x-forwarded-for") == want


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (b"for=203.0.113.7", ("203.0.113.7", None)),
        (b'For="[2001:db8:cafe::17]:4711";proto=https;by=10.1.1.1', ("2001:db8:cafe::17", 4711)),
        (b'for=192.0.2.60;proto=http, for="10.1.1.1:80"', ("192.0.2.60", None)),
        (b'host="a,b;c=\\"d\\"";for=192.0.2.60', ("192.0.2.60", None)),  # what is quoted parts nothing
        (b'for=6.6.6.6, for="203.0.113.7:_port", for=10.9.9.9', ("203.0.113.7", None)),
        (b"for=203.0.113.7, for=unknown", None),
        (b"for=203.0.113.7, for=_gazonk", None),
        (b"for=203.0.113.7, proto=https", None),
        (b'for="203.0.113.7, for=10.1.1.1', None),
        (b"for=203.0.113.7,", None),
        (b"for=203.0.113.7;", None),
        (b"203.0.113.7", None),
        (b"for=6.6.6.6;for=10.0.0.1", None),
        (b"for=6.6.6.6;proto=http;FOR=203.0.113.7", None),
        (b'for="[fe80::1%eth0]"', None),
        (b"for=6.6.6.6;proto=http, for=203.0.113.7;proto=http", ("203.0.113.7", None)),
    ],
)
def test_forwarded(said: bytes, want: Any) -> None:
    assert client(said, "forwarded") == want


def binary(source: str, command: int = 0x21, cut: int = 0) -> bytes:
    one = ipaddress.ip_address(source)
    addresses = one.packed + one.packed + struct.pack("!HH", 4711, 80)
    family = 0x11 if one.version == 4 else 0x21
    return V2 + struct.pack("!BBH", command, family, len(addresses) - cut) + addresses[: len(addresses) - cut]


@pytest.mark.parametrize(
    ("said", "want"),
    [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n", ("203.0.113.7", 4711)),
        (b"PROXY TCP6 2001:db8::7 fd00::1 4711 80\r\n", ("2001:db8::7", 4711)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 80\r\n", None),
        (b"PROXY TCP4 ::1 ::2 4711 80\r\n", None),
        (b"PROXY TCP6 203.0.113.7 10.0.0.1 4711 80\r\n", None),
        (b"PROXY TCP4 203.0.113.7:7 10.0.0.1 4711 80\r\n", None),
        (b"PROXY TCP6 [2001:db8::7]:7 fd00::1 4711 80\r\n", None),
        (b"PROXY TCP6 fe80::1%<script> fd00::1 4711 80\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (b"PROXY TCP4 nonsense 10.0.0.1 4711 80\r\n", None),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 x 80\r\n", None),
        (binary("203.0.113.7"), ("203.0.113.7", 4711)),
        (binary("2001:db8::"), ("2001:db8::", 4711)),
        (binary("203.0.113.7", command=0x20), None),  # LOCAL: the proxy's own
        (binary("203.0.113.7", cut=4), None),
        (V2 + b"\x21\x31\x00\xd8", None),  # Unix sockets
    ],
)
def test_the_proxy_protocol(said: bytes, want: Any) -> None:
    assert client(said, "proxy") == want


def test_who_is_not_trusted_is_not_believed() -> None:
    said = b"203.0.113.7"
    assert client(said, "x-forwarded-for", ["10.0.0.0/8"]) is None  # the peer is 127.0.0.1
    assert client(said, "x-forwarded-for", []) is None
    assert client(said, "x-forwarded-for", ["unix"]) is None
    assert client(said, "x-forwarded-for", ["unix"], family=1) == ("203.0.113.7", None)
    assert client(said, "x-forwarded-for", TRUSTED, family=1) is None
    assert client(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n", "proxy", []) is None


def test_a_list_that_was_cut_is_not_used() -> None:
    cut = contract.number("TRUNCATED_FORWARDED")
    assert client(b"203.0.113.7", "x-forwarded-for", truncated=cut) is None
    made = span(forwarded=b"203.0.113.7", forwarded_bytes=11, truncated=cut)
    assert made.facts.truncated == ["client.address"]
    assert made.attributes["client.address"] == "127.0.0.1"


def span(**changes: Any) -> Span:
    maker = SpanMaker(Clock(), lambda _row: Identity("x"), ["client.port"], Proxies(TRUSTED, "x-forwarded-for"))
    return maker.span(row(**changes))


def test_the_attributes() -> None:
    named = span(forwarded=b"203.0.113.7:4711", forwarded_bytes=16).attributes
    assert (named["client.address"], named["client.port"]) == ("203.0.113.7", 4711)
    assert (named["network.peer.address"], named["network.peer.port"]) == ("127.0.0.1", 40000)
    without_port = span(forwarded=b"203.0.113.7", forwarded_bytes=11).attributes
    assert "client.port" not in without_port
    asked = span(forwarded=b"203.0.113.7", forwarded_bytes=11, **CLIENT).attributes
    assert "client.address" not in asked


def test_two_clients_behind_one_peer_are_two() -> None:
    maker = SpanMaker(Clock(), lambda _row: Identity("x"), (), Proxies(TRUSTED, "x-forwarded-for"))
    said = [b"203.0.113.7", b"203.0.113.8", b""]
    made = [maker.span(row(forwarded=one, forwarded_bytes=len(one))) for one in said]
    assert [one.attributes["client.address"] for one in made] == ["203.0.113.7", "203.0.113.8", "127.0.0.1"]


def test_networks_of_mapped_addresses_are_of_ipv4() -> None:
    settings = merge({"trusted_proxies": ["::ffff:10.0.0.0/104", "::ffff:192.0.2.1", "::/0"]}, None)
    assert settings.trusted_proxies == ["10.0.0.0/8", "192.0.2.1/32", "::/0"]


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "example.com", "10.0.0.0/33", 7])
def test_networks_that_are_none(wrong: Any) -> None:
    with pytest.raises(UsageError, match="trusted_proxies"):
        merge({"trusted_proxies": [wrong]}, None)


@pytest.fixture(params=http1.FORWARDING_FIELDS)
def field(request: pytest.FixtureRequest) -> Iterator[str]:
    """The field that is kept, for as long as the test runs."""
    library().harness_load(http1.table(request.param))
    yield request.param
    library().harness_load(http1.table())


def kept(*lines: bytes, pieces: int = 0) -> Any:
    connection = Connection(SERVER)
    data = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"Connection: close", b"", b""])
    for at in range(0, len(data), pieces or len(data)):
        connection.call(INGRESS, data[at : at + (pieces or len(data))])
    connection.end(2)
    (record,) = connection.records()
    return record


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_all_lines_of_the_field_are_kept_in_order(field: str, pieces: int) -> None:
    name = field.encode()
    lines = [name + b": 1.2.3.4", b"X-Forwarded-Host: 9.9.9.9", name.title() + b":\t5.6.7.8, 9.9.9.9 ", name + b": z"]
    record = kept(*lines, pieces=pieces)
    said = [one.strip() for one in text(record, "forwarded").split(b",")]
    assert said == [b"1.2.3.4", b"5.6.7.8", b"9.9.9.9", b"z"]
    assert not record["truncated"]
    assert text(record, "host") == b"a"


def test_a_long_list_is_cut_and_said_to_be(field: str) -> None:
    record = kept(field.encode() + b": " + b"1.2.3.4, " * 30 + b"5.6.7.8")
    assert record["truncated"] == contract.number("TRUNCATED_FORWARDED")


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    record = kept(b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4")
    assert not record["forwarded_bytes"]


@pytest.mark.parametrize("one", http1.FORWARDING_FIELDS)
def test_states_have_the_same_numbers_with_a_forwarding_field(one: str) -> None:
    with_field = http1.numbers(one)
    assert {name: with_field[name] for name in http1.numbers()} == http1.numbers()
