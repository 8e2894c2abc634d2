"""Records to spans: the semantic conventions, attribute by attribute."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ringspan import contract, redact, target, trace_context
from ringspan.clock import Clock
from ringspan.model import Identity, Span
from ringspan.spans import SpanMaker

from .rows import CLIENT, row

WIRE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def span(**changes: Any) -> Span:
    return SpanMaker(Clock(), lambda _row: Identity("svc")).span(row(**changes))


def test_a_server_span_has_the_required_attributes() -> None:
    made = span(target=b"/a/b?page=2")
    assert (made.facts.name, made.facts.kind, made.facts.is_error, made.duration_ns, made.first_byte_ns) == (
        "GET",
        "server",
        False,
        2_000_000,
        1_000_000,
    )
    assert made.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "network.transport": "tcp",
        "server.address": "example.com",
        "server.port": 8080,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 40000,
        "client.address": "127.0.0.1",
        "url.scheme": "http",
        "url.path": "/a/b",
        "url.query": "page=2",
        "process.pid": 77,
    }


def test_a_client_span_has_the_required_attributes() -> None:
    made = span(**CLIENT, host=b"example.com:81", target=b"/x?a=1")
    assert made.facts.kind == "client"
    assert made.attributes["url.full"] == "http://example.com:81/x?a=1"
    assert made.attributes["server.port"] == 81
    assert made.attributes["network.peer.port"] == 8080
    assert "url.path" not in made.attributes


@pytest.mark.parametrize(
    ("status", "server", "client"), [(200, False, False), (304, False, False), (404, False, True), (500, True, True)]
)
def test_which_statuses_are_errors(status: int, server: bool, client: bool) -> None:
    for flags, want in (({}, server), (CLIENT, client)):
        made = span(**flags, status=status)
        assert made.facts.is_error is want
        assert made.attributes.get("error.type") == (str(status) if want else None)


def test_an_unknown_method_is_other() -> None:
    made = span(method=b"MKCALENDAR")
    assert made.facts.name == "HTTP"
    assert made.attributes["http.request.method"] == "_OTHER"
    assert made.attributes["http.request.method_original"] == "MKCALENDAR"


def test_no_status_is_invented() -> None:
    made = span(status=0, first_byte_ktime_ns=0, failure=contract.number("FAILURE_CONNECTION_CLOSED"))
    assert "http.response.status_code" not in made.attributes
    assert made.attributes["error.type"] == "connection_closed"
    assert made.first_byte_ns is None


def test_an_id_from_the_wire_is_parent_never_own() -> None:
    made = span(traceparent=WIRE, tracestate=b"a=1")
    assert made.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert made.parent_span_id == 0x00F067AA0BA902B7
    assert made.span_id == 3
    assert made.trace_state == "a=1"


PEER, SERVED = contract.number("JOIN_PEER"), contract.number("JOIN_SERVED")
NAMED = 0x00F067AA0BA902B7


@pytest.mark.parametrize(
    ("joined", "named", "traceparent", "want"),
    [
        (0, 0, b"", None),
        (PEER, 0, b"", 9),
        (SERVED, 0, b"", 9),
        (PEER, NAMED, WIRE, 9),  # the client's span of the same request, whose parent is the one named
        (SERVED, NAMED, WIRE, 9),  # the server's span of one that named the same: passed on as it came
        (SERVED, 5, WIRE, NAMED),  # the application's own, which is nearer
        (SERVED, 0, b"nonsense", 9),
    ],
)
def test_the_nearest_parent(joined: int, named: int, traceparent: bytes, want: int | None) -> None:
    made = span(joined=joined, parent_span_id=9 if joined else 0, named_span_id=named, traceparent=traceparent)
    assert made.parent_span_id == want
    assert made.parent_is_remote == (joined != SERVED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        WIRE.decode().upper(),
        "ff" + WIRE.decode()[2:],
        WIRE.decode() + "-x",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        WIRE.decode()[:-1],
    ],
)
def test_an_invalid_traceparent_is_ignored(text: str) -> None:
    assert trace_context.parse(text) is None


def test_a_later_version_may_have_more() -> None:
    assert trace_context.parse("01" + WIRE.decode()[2:] + "-more")


def test_a_failed_connect() -> None:
    made = span(
        **CLIENT,
        kind=contract.number("RECORD_CONNECT_FAILURE"),
        failure=contract.number("FAILURE_ERRNO"),
        error_number=111,
        status=0,
    )
    assert (made.facts.name, made.facts.kind, made.attributes["error.type"]) == (
        "tcp connect",
        "client",
        "ECONNREFUSED",
    )
    assert "http.request.method" not in made.attributes


def test_what_was_cut_is_named() -> None:
    bits = sum(contract.names("TRUNCATED_"))
    assert sorted(span(truncated=bits, target=b"/x?y").facts.truncated) == [
        "client.address", "http.request.method_original", "server.address", "traceparent", "tracestate", "url.query",
        "user_agent.original",
    ]  # fmt: skip
    assert "url.full" in span(**CLIENT, truncated=bits).facts.truncated


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a=1&b=2", "a=1&b=2"),
        ("token=abc&a=1", "token=REDACTED&a=1"),
        ("a;password=x", "a;password=REDACTED"),
        ("X-Goog-Signature=1&sig=2", "X-Goog-Signature=REDACTED&sig=REDACTED"),
        ("to%6ben=abc", "to%6ben=REDACTED"),
        ("next=http://u:p@h/", "next=http://REDACTED:REDACTED@h/"),
        ("monkey=1&design=2&author=me", "monkey=1&design=2&author=me"),
        ("token=", "token="),
    ],
)
def test_secrets_in_a_query(text: str, want: str) -> None:
    assert redact.query(text) == want


@pytest.mark.parametrize(
    ("authority", "want"),
    [
        ("a", ("a", None)),
        ("a:80", ("a", 80)),
        ("[::1]:8", ("::1", 8)),
        ("u:p@a:9", ("a", 9)),
        ("a:", ("a", None)),
        ("a:99999", ("a", None)),
    ],
)
def test_authorities(authority: str, want: tuple[str, int | None]) -> None:
    assert target.split_authority(authority) == want


def test_addresses() -> None:
    assert target.address(10, bytes(10) + b"\xff\xff\x7f\0\0\x01") == "127.0.0.1"
    assert target.address(10, bytes(15) + b"\x01") == "::1"
    assert target.address(2, b"\x0a") == "10.0.0.0"
    assert target.unix_path(b"\0abc") == "@abc"


def test_secrets_in_a_fragment_are_redacted() -> None:
    assert redact.url("http://a/x?b=1#access_token=zz") == "http://a/x?b=1#access_token=REDACTED"
    assert redact.url("http://a/x#access_token=zz&b=2") == "http://a/x#access_token=REDACTED&b=2"


def test_redaction_takes_time_in_proportion() -> None:
    began = time.process_time()
    for text in ("/" + "a" * 639, "a" * 640, "://" * 213, "%3a%2f%2f" * 71):
        for _ in range(100):
            redact.url(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("given", "cut", "kept"),
    [
        ("a=1,b=2", False, "a=1,b=2"), ("a=1, b=2", False, "a=1,b=2"), ("not valid", False, ""), ("ABC=1", False, ""),
        ("a=1,bb=2", True, "a=1"), ("a=1", True, ""), ("", False, ""),
    ],
)  # fmt: skip
def test_only_valid_members_of_a_tracestate_go_out(given: str, cut: bool, kept: str) -> None:
    assert trace_context.state(given, cut=cut) == kept


def test_attributes_that_must_be_asked_for() -> None:
    names = ["client.port", "network.local.address", "network.local.port", "url.scheme"]
    maker = SpanMaker(Clock(), lambda _row: Identity("svc"), names)
    served, made = maker.span(row()).attributes, maker.span(row(**CLIENT)).attributes
    assert {name: served.get(name) for name in names} == {
        "client.port": 40000, "network.local.address": "127.0.0.1", "network.local.port": 8080, "url.scheme": "http",
    }  # fmt: skip
    assert {name: made.get(name) for name in names} == {
        "client.port": None, "network.local.address": "127.0.0.1", "network.local.port": 40000, "url.scheme": "http",
    }  # fmt: skip
    assert not {"client.port", "network.local.address", "network.local.port"} & set(span().attributes)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("token=?abc", "token=REDACTED"),
        ("token=a;bc", "token=REDACTED"),
        ("a=1;code=;abc", "a=1;code=REDACTED"),
        ("token=abc==", "token=REDACTED"),
        ("token%3Dabc&b=1", "REDACTED&b=1"),
        ("u=?token=abc", "u=REDACTED"),
        ("next=%252Fcb%253Ftoken%253Dabc", "next=REDACTED"),
        ("next=http%253A%252F%252Fu:p%2540h", "next=http%253A%252F%252FREDACTED:REDACTED@h"),
        ("next=http:%2F%2Fu:p@h", "next=http:%2F%2FREDACTED:REDACTED@h"),
        ("next=h%25%33%41%25%32%46/u:p@h", "next=REDACTED"),
        ("next=http://u:\u00a0p@h", "next=http://REDACTED:REDACTED@h"),
        ("u=h%3%41//u:p&q@h", "u=h%3%41//REDACTED:REDACTED@h"),
        ("h%3%41//u:abc&token=x@h", "REDACTED"),
        ("u=http://a%3Ftoken=x@h;abc", "REDACTED"),
        ("u=http://a%3Ftoken@h=abc", "REDACTED"),
        ("u=http://u:mytoken@h&b=1", "u=http://REDACTED:REDACTED@h&b=1"),
        ("h%3%41//u:abc;token=x@h&b=1", "REDACTED"),
        ("h%3%41//u:abc&x@h%3%41//v:w@k", "h%3%41//REDACTED:REDACTED@h%3%41//REDACTED:REDACTED@k"),
        ("h%25%33%41//u:abc=%25%340h&b=1", "REDACTED&b=1"),
    ],
)
def test_secrets_that_hide_in_a_query(text: str, want: str) -> None:
    assert redact.query(text) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("/a;jsessionid=1A/b;v=2", "/a;jsessionid=REDACTED/b;v=2"),
        ("/proxy/http%3A%2F%2Fu:p%40h/", "/proxy/http%3A%2F%2FREDACTED:REDACTED@h/"),
        ("/proxy/%2Fcb%3Ftoken%3Dabc", "/proxy/%2Fcb%3FREDACTED"),
        ("/h%3%41//u:p@h%3Ftoken%3Dabc", "/h%3%41//REDACTED:REDACTED@h%3FREDACTED"),
        ("/x/http://a%3Ftoken=x@h;abc", "/x/http://REDACTED"),
        ("/;sid=abc/http://a%3Ftoken=x@h", "/;sid=REDACTED/http://REDACTED"),
        ("/a=b;c", "/a=b;c"),
        ("/100%/@scope", "/100%/@scope"),
    ],
)
def test_secrets_in_a_path(text: str, want: str) -> None:
    assert redact.path(text) == want


@pytest.mark.parametrize(
    ("flags", "name", "want"),
    [
        ({"target": b"/?next=http://u:pass"}, "url.query", "next=http://REDACTED:REDACTED@"),
        ({"target": b"/x/http://u:pass"}, "url.path", "/x/http://REDACTED:REDACTED@"),
        ({"target": b"/x?a=http://h/y&b=2"}, "url.query", "a=http://h/y&b=2"),
        ({"target": b"http://u:pass", **CLIENT}, "url.full", "http://example.com"),
    ],
)
def test_userinfo_whose_end_was_cut_off(flags: dict[str, Any], name: str, want: str) -> None:
    assert span(**flags, truncated=contract.number("TRUNCATED_TARGET")).attributes[name] == want


def test_userinfo_in_an_authority_that_is_no_good() -> None:
    """What is no host and port must not be given whole for a host."""
    for authority in (b"u:secret@ho:st:80x", b"u:secret%40h:1", b"u:sec\nret@h"):
        made = span(target=b"/", host=authority, host_bytes=len(authority))
        assert "sec" not in made.attributes["server.address"]
        called = span(**CLIENT, target=b"/", host=authority, host_bytes=len(authority))
        assert "sec" not in called.attributes["url.full"]


def test_times_that_cannot_be_are_kept_within_what_can_be_sent() -> None:
    made = span(start_ktime_ns=(1 << 64) - 1, end_ktime_ns=0, first_byte_ktime_ns=1)
    assert (made.start_unix_ns, made.duration_ns, made.first_byte_ns) == ((1 << 63) - 1, 0, 0)


def test_of_tls_the_scheme_is_https() -> None:
    assert span(tls=1).attributes["url.scheme"] == "https"
    client = span(**CLIENT, tls=1, target=b"/x").attributes
    assert client["url.full"] == "https://example.com/x"
    assert client["server.port"] == 443  # the socket may be a proxy's
    assert client["network.peer.port"] == 8080
    assert span(**CLIENT, tls=1, host=b"example.com:8443", host_bytes=16).attributes["server.port"] == 8443


@pytest.mark.parametrize("role", ["SERVER", "CLIENT"])
def test_of_a_session_without_a_socket_no_address_is_told(role: str) -> None:
    nowhere = {"family": 0, "local_port": 0, "remote_port": 0, "local_address": b"", "remote_address": b"", "tls": 1}
    made = span(role=contract.number(f"ROLE_{role}"), **nowhere).attributes
    assert (made["server.address"], made["server.port"]) == ("example.com", 443)
    assert not [name for name in made if name.startswith(("network.peer", "client", "network.transport"))]
    unnamed = span(role=contract.number(f"ROLE_{role}"), **nowhere, host=b"", host_bytes=0).attributes
    assert "server.address" not in unnamed
    if role == "CLIENT":
        assert unnamed["url.full"] == "https://localhost/"
