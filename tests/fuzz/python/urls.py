"""Targets, authorities and redaction.

What is promised: a secret never comes out that stands

- in the userinfo of an absolute request target, of CONNECT's or of a Host (before the last @ of the authority), or of
  a URL with :// or // (or :/; of schemes that browsers know, no slash) inside a path or a query, the :// and the @
  percent-encoded any number of times, or not;
- in a query (or fragment; CONNECT has none) as the value of a key that redact.SECRET_KEY matches, up to the next & (in a path: ?), whether the key, the
  separators, or the = are percent-encoded or not; also in a query that stands encoded inside a path or a value, and of
  such a key in JSON that is a value;
- in the part of either that was kept of a target that was cut.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from ringspan import contract, redact, target
from ringspan.clock import Clock
from ringspan.counts import Counts, endpoint_name
from ringspan.model import Identity, rows
from ringspan.otlp import encode
from ringspan.spans import SpanMaker, describe, text
from ringspan.view import json_rows, lines
from unit.rows import CLIENT, batch

from .source import Source

PLANTED = "hUnTeR2xYz"
WHO = Identity("svc")
CLOCK = Clock()
KEYS = (
    "token",
    "access_token",
    "password",
    "X-Api-Key",
    "sig",
    "code",
    "pwd",
    "session_id",
    "client_secret",
    "jwt",
    "pass[]",
    "user[pin]",
    "a.key",
    "db_pass",
    " otp",
    "mypass",
    "pass_hash",
    "csrf",
    "code_verifier",
)
METHODS = (b"GET", b"POST", b"CONNECT", b"OPTIONS", b"BREW")
TARGET_MAX, HOST_MAX = contract.number("TARGET_MAX"), contract.number("HOST_MAX")
TARGET_CUT = contract.number("TRUNCATED_TARGET")
# A query that was encoded is shown as one: read once more, it has what follows the next mark too.
ENCODED_MARK = re.compile(r"%(?:25)*(?:3f|23)|u00(?:3f|23)", re.IGNORECASE)
SCHEMES = (b"http://", b"https://", b"ftp://", b"redis+tls://", b"H://", b"//", b"https:/", b"http:", b"redis:/")


def encoded(text: bytes, level: int, which: int) -> bytes:
    """Percent-encode some (bits of which) of the bytes, so many times over."""
    for _ in range(level):
        text = b"".join(b"%%%02X" % c if which >> i % 8 & 1 else bytes([c]) for i, c in enumerate(text))
    return text


def filler(source: Source, forbidden: bytes) -> bytes:
    """A fuzzed piece without what would end the place it is put in, and without what would spell PLANTED.

    A request line has no blank nor line feed; and Y, or %59, is what a fuzzer that has found PLANTED out would need.
    """
    return bytes(c for c in source.take(source.byte() % 24) if c not in forbidden + b" \r\nY5")


def _with_userinfo(source: Source) -> bytes:
    """[before]scheme://user:SECRET@host[after], where a URL may stand."""
    level, which = source.byte() % 4, source.byte()
    scheme, colon, slashes = source.choice(SCHEMES).rpartition(b":")
    marks = [encoded(colon + slashes, level, 0xFF if level else 0), encoded(b"@", level, which or 0xFF)]
    user, rest = filler(source, b"/?#@%\\"), filler(source, b"/?#%\\")
    before = source.choice((b"", b"/login?next=", b"/proxy/", b"/?a=1&u=", b"/a;u=")) + filler(source, b"?#")
    if b"://" in before or b"%" in before:
        before = b""
    url = scheme + marks[0] + user + b":" + PLANTED.encode() + rest + marks[1] + b"host" + filler(source, b"")
    return before + url


def _with_key(source: Source) -> bytes:
    """/[path]?[other&]key=SECRET[rest], the key encoded or not, or all of it inside another value."""
    level, which = source.byte() % 3, source.byte()
    key = encoded(source.choice(KEYS).encode(), level, which)
    equals = source.choice((b"=", b"=", b"%3D", b"%253d"))
    opening = source.choice((b"?", b"?a=b&", b"?x;", b"?next=/cb%3F", b"?u=%252Fcb%253F", b"/a%3F"))
    before = b"/" + filler(source, b"#") + opening
    ends = b"&#" if b"?" in before else b"&#?"
    pair = key + equals + filler(source, ends) + PLANTED.encode() + filler(source, b"")
    if b"?" in before and source.byte() == 1:
        name = source.choice(KEYS).encode()
        pair = b"v=" + encoded(b'{"' + name + b'":"' + PLANTED.encode() + b'"}', level, which)
    return before + pair + source.choice((b"", b"&b=1", b"#top", b";c=2"))


def _request(source: Source) -> dict[str, Any]:
    kind = source.byte() % 4
    method = source.choice(METHODS)
    host, cut = filler(source, b"")[:HOST_MAX], 0
    if kind == 0:
        asked = _with_userinfo(source)
    elif kind == 1:
        asked, method = _with_key(source), method if method != b"CONNECT" else b"GET"
    elif kind == 2:
        user, rest = filler(source, b"/?#"), filler(source, b"/?#")
        asked, method = user + b":" + PLANTED.encode() + rest + b"@h:443", b"CONNECT"
    else:
        user, rest = filler(source, b"/?#"), filler(source, b"/?#")
        host = (user + b":" + PLANTED.encode() + rest + b"@" + filler(source, b""))[:HOST_MAX]
        asked = b"/" + filler(source, b"")
    if len(asked) > TARGET_MAX or source.byte() == 1:
        asked = asked[: source.byte() % (len(asked) + 1)] if kind < 2 else asked
        cut = TARGET_CUT if kind < 2 else 0
    return {"target": asked[:TARGET_MAX], "method": method, "host": host, "host_bytes": len(host), "truncated": cut}


SERVER_ROW, CLIENT_ROW = rows(batch({}, CLIENT))


def described(request: dict[str, Any]) -> list[str]:
    """What both ends' spans and the live output are made of."""
    values = [
        value for row in (SERVER_ROW, CLIENT_ROW) for value in describe(row._replace(**request)).attributes.values()
    ]
    cut = bool(request["truncated"])
    return [*map(str, values), endpoint_name(text(request["target"]), text(request["method"]), cut=cut)]


def outputs(request: dict[str, Any]) -> list[str]:
    """All that is shown or sent of a request, at each end."""
    records = batch(request, request | CLIENT)
    made = [SpanMaker(CLOCK, lambda _row: WHO).span(row) for row in rows(records)]
    tally = Counts()
    tally.add(records)
    return [
        *(json.dumps(json_rows.row(span), ensure_ascii=False) for span in made),
        *(encode.encode(span).decode("latin-1") for span in made),
        lines.text(tally),
    ]


def check_secrets(data: bytes) -> int:
    """No planted secret is in what is made of a request, not even encoded."""
    request = _request(Source(data))
    _check_unseen(request, described(request))
    return 1


def check_ways_out(data: bytes) -> int:
    """Nor does it leave by any way."""
    request = _request(Source(data))
    _check_unseen(request, outputs(request))
    return 1


def _check_unseen(request: dict[str, Any], shown: list[str]) -> None:
    for one in shown:
        for _ in range(6):
            assert PLANTED not in one, request
            if "%" not in one:
                break
            one = unquote(one)  # noqa: PLW2901


def check_targets(data: bytes) -> int:
    """Any target and authority is taken apart, and put together means the same; ports are ports."""
    source = Source(data)
    method, cut = source.choice(("GET", "CONNECT", "OPTIONS")), bool(source.byte() & 1)
    given = source.piece().decode(errors="backslashreplace")
    parts = target.split(given, method, cut=cut)
    assert all(part in given or part == "/" for part in parts)
    host, port = target.split_authority(given)
    assert "@" not in host
    assert port is None or 0 < port < 65536
    for redacted in (redact.url, redact.query, redact.path, redact.authority):
        once = redacted(given)
        assert ENCODED_MARK.search(given) or redacted(once) == once, (given, once)
    target.address(source.byte(), source.take(16))
    target.unix_path(source.rest()).encode()
    return 1
