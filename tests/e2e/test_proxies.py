"""The client behind a proxy that is trusted: by its header, or by the PROXY protocol, whose connections are followed in any case."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from peers.process import free_port

from .numbered import get, number_of, ok, pair_maker, read
from .tracer import Row, trace

pytestmark = pytest.mark.root
ADDRESSES = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 80)
V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(ADDRESSES) + 7) + ADDRESSES + b"\x04\0\x04tlvs"
PEER = "127.0.0.1"


def rows_of(folder: Path, sent: list[list[bytes]], **settings: str) -> list[Row]:
    """The server's rows of connections, of which each sends these parts, read by a call each, and asks for its number."""
    port, config = free_port(), folder / "settings.yaml"
    config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    with trace("--config", str(config), "--port", str(port)) as tracer, pair_maker(port) as connected:
        for number, parts in enumerate(sent, start=1):
            client, server = connected()
            with client, server:
                for part in parts:
                    client.sendall(part)
                    read(server, len(part))
                server.sendall(ok(number))
                read(client, len(ok(number)))
        rows = tracer.rows(expect=2 * len(sent))
        tracer.stop()
    assert sorted(number_of(row) for row in rows) == sorted(2 * list(range(1, len(sent) + 1)))
    return sorted((row for row in rows if row["kind"] == "server"), key=number_of)


def clients(rows: list[Row]) -> list[str]:
    assert {row["attributes"]["network.peer.address"] for row in rows} == {PEER}
    return [row["attributes"]["client.address"] for row in rows]


def proxied(header: bytes) -> list[list[bytes]]:
    """In one call with the request, and before it."""
    return [[header + get(1)], [header, get(2)]]


@pytest.mark.parametrize("header", [V1, V2, b"PROXY UNKNOWN\r\n"], ids=["1", "2", "unknown"])
@pytest.mark.parametrize("trusted", ["[127.0.0.0/8]", "[10.0.0.0/8]", "[]"])
def test_the_proxy_protocol(tmp_path: Path, header: bytes, trusted: str) -> None:
    rows = rows_of(tmp_path, proxied(header), trusted_proxies=trusted, client_from="proxy")
    believed = "127" in trusted and b"UNKNOWN" not in header
    assert clients(rows) == 2 * ["203.0.113.7" if believed else PEER]


def test_a_header_that_does_not_come_first_is_none(tmp_path: Path) -> None:
    body = b"POST /n/1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(V1)
    (row,) = rows_of(tmp_path, [[body, V1]], trusted_proxies="[127.0.0.0/8]", client_from="proxy")
    assert row["request_body_bytes"] == len(V1)
    assert clients([row]) == [PEER]


@pytest.mark.parametrize(
    ("field", "said", "want"),
    [
        ("x-forwarded-for", [b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 203.0.113.7, 127.0.0.2"], "203.0.113.7"),
        ("x-forwarded-for", [b"Forwarded: for=203.0.113.7"], PEER),
        ("x-forwarded-for", [b"X-Forwarded-For: " + b"203.0.113.7, " * 30 + b"127.0.0.2"], PEER),
        ("forwarded", [b'Forwarded: for=6.6.6.6, for="[2001:db8::7]:4711"'], "2001:db8::7"),
        ("forwarded", [b"Forwarded: for=_hidden", b"X-Forwarded-For: 203.0.113.7"], PEER),
    ],
)
def test_fields(tmp_path: Path, field: str, said: list[bytes], want: str) -> None:
    sent = [[get(1, *said)], [get(2)]]
    assert clients(rows_of(tmp_path, sent, trusted_proxies="[127.0.0.0/8]", client_from=field)) == [want, PEER]
    assert clients(rows_of(tmp_path, sent, trusted_proxies="[]", client_from=field)) == [PEER, PEER]
