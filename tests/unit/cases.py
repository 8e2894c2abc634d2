"""What passes over an HTTP/1 connection, and the exchanges that must come of it: data only.

A case is told once, by what requests and responses carry; it is played from the server's side and from the client's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringspan import contract

NONE, ERRNO, TIMEOUT, CONNECTION_CLOSED, CLIENT_CLOSED, INCOMPLETE, INVALID_RESPONSE = (
    contract.number(f"FAILURE_{name}")
    for name in ("NONE", "ERRNO", "TIMEOUT", "CONNECTION_CLOSED", "CLIENT_CLOSED", "INCOMPLETE", "INVALID_RESPONSE")
)
ECONNRESET, ETIMEDOUT = 104, 110


class Step(NamedTuple):
    """Bytes that move, or an event."""

    what: str  # request, response; client_gone, server_gone, half_close, error, shutdown, close
    data: bytes = b""
    number: int = 0
    opaque: bool = False


def rq(data: bytes) -> Step:
    """Request bytes."""
    return Step("request", data)


def rs(data: bytes) -> Step:
    """Response bytes."""
    return Step("response", data)


def sendfile(data: bytes) -> Step:
    """Response bytes that cannot be read."""
    return Step("response", data, opaque=True)


def error(number: int) -> Step:
    """The observed side's receive fails."""
    return Step("error", number=number)


EOF = Step("eof")  # the other side has closed, and the observed side's receive has returned 0
FIN = Step("fin")  # the other side has closed, which the observed side has not read
CLOSE = Step("close")  # the observed side closes
SHUTDOWN = Step("shutdown")  # the observed side closes for writing
SERVER_SIDE, CLIENT_SIDE = "server", "client"
BOTH = (SERVER_SIDE, CLIENT_SIDE)


def exchange(status: int = 200, **other: Any) -> dict[str, Any]:
    """Describe a record, by what differs from a plain GET / that is answered 200 with no body."""
    plain = {
        "method": b"GET",
        "target": b"/",
        "host": b"a",
        "user_agent": b"",
        "traceparent": b"",
        "tracestate": b"",
        "request_body_bytes": 0,
        "response_body_bytes": 0,
        "failure": NONE,
        "error_number": 0,
        "truncated": 0,
        "http_minor": 1,
    }
    assert other.keys() <= plain.keys()
    return {**plain, "status": status, **other}


@dataclass(frozen=True)
class Case:
    """One connection: its steps, and what comes of them, before it is closed at last."""

    name: str
    steps: tuple[Step, ...]
    records: tuple[dict[str, Any], ...] = ()
    counters: dict[str, int] = field(default_factory=dict)  # besides seen and recorded
    sides: tuple[str, ...] = BOTH
    born: bool = True  # else picked up in mid-stream, and the side is not known
    off: bool = False  # no longer looked at, before the last close
    split: bool = True  # may be cut anywhere
    pieced: bool = True  # may lie in pieces anywhere


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    """Return a GET with further header lines."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: a", *lines, b"", b""))


def post(body: bytes, *lines: bytes) -> bytes:
    """Return a POST with the given framing."""
    return b"\r\n".join((b"POST / HTTP/1.1", b"Host: a", *lines, b"", b"")) + body


def response(status: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """Return a response with the given framing."""
    return b"\r\n".join((b"HTTP/1.1 " + status, *lines, b"", b"")) + body


LOOKS = b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nGET /no HTTP/1.1\r\nHost: no\r\n\r\n"
LOOKS_LENGTH = b"Content-Length: %d" % len(LOOKS)
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH_5 = b"Content-Length: 5"
CHUNKS = b'5;a=b;c="d"\r\nhello\r\n00A  \r\n0123456789\r\n0;last\r\nExpires: never\r\nContent-Length: 7\r\n\r\n'
LONG_FIELDS = tuple(b"X-Filler-%03d: " % i + b"v" * 120 for i in range(116))
SHORT_FIELDS = tuple(b"a:b" for _ in range(1600))

MESSAGES = (
    Case("simple GET", (rq(GET), rs(HI)), (exchange(response_body_bytes=2),)),
    Case(
        "all that is kept",
        (
            rq(
                b"PATCH /a?b=c HTTP/1.1\r\nAccept: */*\r\nHost: example.com:8080\r\nUser-Agent: curl/8 (x; y)\r\n"
                b"traceparent: " + TRACEPARENT + b"\r\ntracestate: a=1,b=2\r\nX: y\r\n\r\n"
            ),
            rs(OK),
        ),
        (
            exchange(
                method=b"PATCH",
                target=b"/a?b=c",
                host=b"example.com:8080",
                user_agent=b"curl/8 (x; y)",
                traceparent=TRACEPARENT,
                tracestate=b"a=1,b=2",
            ),
        ),
    ),
    Case(
        "values of one byte",
        (rq(b"G / HTTP/1.1\r\nHost:h\r\nUser-Agent:u\r\ntraceparent:p\r\ntracestate:s\r\n\r\n"), rs(OK)),
        (exchange(method=b"G", host=b"h", user_agent=b"u", traceparent=b"p", tracestate=b"s"),),
    ),
    Case(
        "HEAD with Content-Length",
        (
            rq(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
            rs(response(b"200 OK", b"", b"Content-Length: 99")),
            rq(GET),
            rs(HI),
        ),
        (exchange(method=b"HEAD"), exchange(response_body_bytes=2)),
    ),
    Case(
        "HEAD with chunked",
        (rq(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), rs(response(b"200 OK", b"", CHUNKED)), rq(GET), rs(HI)),
        (exchange(method=b"HEAD"), exchange(response_body_bytes=2)),
    ),
    Case(
        "a method that begins as HEAD does",
        (rq(b"HEADER / HTTP/1.1\r\nHost: a\r\n\r\n"), rs(HI)),
        (exchange(method=b"HEADER", response_body_bytes=2),),
    ),
    Case(
        "204",
        (rq(GET), rs(response(b"204 No Content")), rq(GET), rs(HI)),
        (exchange(204), exchange(response_body_bytes=2)),
    ),
    Case(
        "304 with Content-Length",
        (rq(GET), rs(response(b"304 Not Modified", b"", b"Content-Length: 99")), rq(GET), rs(HI)),
        (exchange(304), exchange(response_body_bytes=2)),
    ),
    Case(
        "205 with Content-Length: 0",
        (rq(GET), rs(response(b"205 Reset Content", b"", b"Content-Length: 0")), rq(GET), rs(HI)),
        (exchange(205), exchange(response_body_bytes=2)),
    ),
    Case(
        "a status with no reason phrase",
        (
            rq(GET),
            rs(response(b"200 ", b"hi", b"Content-Length: 2")),
            rq(GET),
            rs(response(b"404", b"", b"Content-Length: 0")),
        ),
        (exchange(response_body_bytes=2), exchange(404)),
    ),
    Case(
        "a status beyond 599",
        (rq(GET), rs(response(b"999 Denied", b"hi", b"Content-Length: 2"))),
        (exchange(999, response_body_bytes=2),),
    ),
    Case(
        "POST with Content-Length",
        (rq(post(b"hello", LENGTH_5)), rs(HI), rq(GET), rs(OK)),
        (exchange(method=b"POST", request_body_bytes=5, response_body_bytes=2), exchange()),
    ),
    Case("POST with no body", (rq(post(b"", b"Content-Length: 0")), rs(OK)), (exchange(method=b"POST"),)),
    Case(
        "chunked both ways, with extensions and trailers",
        (rq(post(CHUNKS, CHUNKED)), rs(response(b"200 OK", CHUNKS, CHUNKED)), rq(GET), rs(OK)),
        (exchange(method=b"POST", request_body_bytes=15, response_body_bytes=15), exchange()),
    ),
    Case(
        "an empty chunked body",
        (rq(post(b"0\r\n\r\n", CHUNKED)), rs(response(b"200 OK", b"0\r\n\r\n", CHUNKED)), rq(GET), rs(OK)),
        (exchange(method=b"POST"), exchange()),
    ),
    Case(
        "chunk sizes in either case, with leading zeros",
        (rq(GET), rs(response(b"200 OK", b"0a\r\n0123456789\r\n000F\r\n0123456789abcde\r\n000\r\n\r\n", CHUNKED))),
        (exchange(response_body_bytes=25),),
    ),
    Case(
        "keep-alive",
        (
            rq(get(b"/1")),
            rs(HI),
            rq(get(b"/2")),
            rs(OK),
            rq(get(b"/3")),
            rs(response(b"404 Not Found", b"", b"Content-Length:0")),
        ),
        (exchange(target=b"/1", response_body_bytes=2), exchange(target=b"/2"), exchange(404, target=b"/3")),
    ),
    Case(
        "pipelined",
        (
            rq(get(b"/1") + post(b"hello", LENGTH_5) + b"HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
            rs(HI + OK + response(b"200 OK", b"", LENGTH_5)),
            rq(get(b"/4")),
            rs(HI),
        ),
        (
            exchange(target=b"/1", response_body_bytes=2),
            exchange(method=b"POST", request_body_bytes=5),
            exchange(method=b"HEAD", target=b"/3"),
            exchange(target=b"/4", response_body_bytes=2),
        ),
    ),
    Case(
        "pipelined, the answers between the requests",
        (rq(get(b"/1") + get(b"/2")), rs(HI), rq(get(b"/3")), rs(OK + HI)),
        (
            exchange(target=b"/1", response_body_bytes=2),
            exchange(target=b"/2"),
            exchange(target=b"/3", response_body_bytes=2),
        ),
    ),
    Case(
        "100 Continue, then 200",
        (rq(post(b"", LENGTH_5, b"Expect: 100-continue")), rs(response(b"100 Continue")), rq(b"hello"), rs(HI)),
        (exchange(method=b"POST", request_body_bytes=5, response_body_bytes=2),),
    ),
    Case(
        "417 and no body after Expect",
        (rq(post(b"", b"Expect: 100-continue", LENGTH_5)), rs(response(b"417 No", b"", b"Content-Length: 0")), CLOSE),
        (exchange(417, method=b"POST"),),
    ),
    Case(
        "103 twice, then 200",
        (rq(GET), rs(response(b"103 Early Hints", b"", b"Link: </a>", b"Content-Length: 5") * 2), rs(HI)),
        (exchange(response_body_bytes=2),),
    ),
    Case(
        "101, then bytes of another protocol",
        (
            rq(get(b"/ws", b"Upgrade: websocket", b"Connection: Upgrade")),
            rs(response(b"101 Switching Protocols", b"\x81\x05hello", b"Upgrade: websocket")),
            rq(GET),
            rs(HI + b"\0\xff"),
        ),
        (exchange(101, target=b"/ws"),),
        off=True,
    ),
    Case(
        "CONNECT and its tunnel",
        (
            rq(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"),
            rs(response(b"200 Connection established", b"", b"Content-Length: 5")),
            rq(b"\x16\x03\x01\x02\x00" + GET),
            rs(b"\x16\x03\x03" + HI),
        ),
        (exchange(method=b"CONNECT", target=b"a.example:443", host=b"a.example:443"),),
        off=True,
    ),
    Case(
        "CONNECT refused, then keep-alive",
        (rq(b"CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n"), rs(response(b"403 No", b"hello", LENGTH_5)), rq(GET), rs(HI)),
        (exchange(403, method=b"CONNECT", target=b"b:1", response_body_bytes=5), exchange(response_body_bytes=2)),
    ),
    Case(
        "absolute form", (rq(get(b"http://b.example:81/c?d")), rs(OK)), (exchange(target=b"http://b.example:81/c?d"),)
    ),
    Case(
        "OPTIONS *", (rq(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), rs(OK)), (exchange(method=b"OPTIONS", target=b"*"),)
    ),
    *(
        Case(
            f"method {method.decode()}",
            (rq(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n"), rs(HI)),
            (exchange(method=method, target=b"/x", response_body_bytes=2),),
        )
        for method in (b"MKCALENDAR", b"M-SEARCH", b"get", b"!#$%&'*+-.^_`|~09")
    ),
    Case(
        "bytes beyond ASCII in a target",
        (rq(get("/caf\u00e9?\u4e2d".encode())), rs(OK)),
        (exchange(target="/caf\u00e9?\u4e2d".encode()),),
    ),
    Case(
        "a target that looks like a version",
        (rq(get(b"/HTTP/1.0?q=HTTP/1.1")), rs(OK)),
        (exchange(target=b"/HTTP/1.0?q=HTTP/1.1"),),
    ),
    Case(
        "blanks in a target",
        (rq(get(b"/a b HTTP/1 c")), rs(response(b"400 Bad", b"", b"Content-Length: 0"))),
        (exchange(400, target=b"/a", truncated=1),),
    ),
    Case(
        "HTTP/1.0 answered until close",
        (rq(b"GET / HTTP/1.0\r\n\r\n"), rs(b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nhello" + LOOKS), EOF, CLOSE),
        (exchange(host=b"", http_minor=0, response_body_bytes=5 + len(LOOKS)),),
        sides=(CLIENT_SIDE,),
    ),
    *(
        Case(
            f"HTTP/1.0 answered until {end.what}",
            (rq(b"GET / HTTP/1.0\r\n\r\n"), rs(b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\nhello"), end, CLOSE),
            (exchange(host=b"", http_minor=0, response_body_bytes=5),),
            sides=(SERVER_SIDE,),
        )
        for end in (SHUTDOWN, CLOSE, FIN)
    ),
    Case(
        "HTTP/1.0 keep-alive",
        (rq(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), rs(HI), rq(b"GET / HTTP/1.0\r\n\r\n"), rs(HI)),
        (exchange(host=b"", http_minor=0, response_body_bytes=2),) * 2,
    ),
    Case(
        "bodies that look like HTTP",
        (rq(post(LOOKS, LOOKS_LENGTH)), rs(response(b"200 OK", LOOKS, LOOKS_LENGTH)), rq(GET), rs(OK)),
        (exchange(method=b"POST", request_body_bytes=len(LOOKS), response_body_bytes=len(LOOKS)), exchange()),
    ),
    Case(
        "a GET with a body",
        (rq(get(b"/", LENGTH_5) + b"hello"), rs(OK), rq(GET), rs(OK)),
        (exchange(request_body_bytes=5), exchange()),
    ),
)

FRAMING = (
    Case(
        "Content-Length and Transfer-Encoding",
        (
            rq(post(CHUNKS, b"Content-Length: 3", CHUNKED)),
            rs(response(b"200 OK", CHUNKS, CHUNKED, b"Content-Length: 3")),
            rq(GET),
            rs(OK),
        ),
        (exchange(method=b"POST", request_body_bytes=15, response_body_bytes=15), exchange()),
    ),
    Case(
        "Content-Length twice, equal",
        (
            rq(post(b"hello", LENGTH_5, LENGTH_5)),
            rs(response(b"200 OK", b"hello", LENGTH_5, LENGTH_5)),
            rq(GET),
            rs(OK),
        ),
        (exchange(method=b"POST", request_body_bytes=5, response_body_bytes=5), exchange()),
    ),
    Case(
        "Content-Length as a list of equals",
        (
            rq(post(b"hello", b"Content-Length: 5, 5")),
            rs(response(b"200 OK", b"hello", b"content-length:\t05 ,5 ")),
            rq(GET),
            rs(OK),
        ),
        (exchange(method=b"POST", request_body_bytes=5, response_body_bytes=5), exchange()),
    ),
    *(
        Case(
            f"a request with {lines}",
            (rq(post(b"hello", *lines)), rs(response(b"400 Bad", b"", b"Content-Length: 0")), CLOSE),
            (exchange(400, method=b"POST", request_body_bytes=5),),
        )
        for lines in (
            (LENGTH_5, b"Content-Length: 6"),
            (b"Content-Length: 5, 6",),
            (b"Content-Length: -5",),
            (b"Content-Length: +5",),
            (b"Content-Length: 0x5",),
            (b"Content-Length: 5 5",),
            (b"Content-Length: 99999999999999999999999",),
            (b"Transfer-Encoding: gzip",),
            (b"Transfer-Encoding: chunked, gzip",),
            (b"Transfer-Encoding: xchunked",),
            (b"Transfer-Encoding: chunked;q=1",),
        )
    ),
    Case(
        "a response with differing Content-Lengths ends with its connection",
        (rq(GET), rs(response(b"200 OK", b"hello!!", LENGTH_5, b"Content-Length: 6")), EOF, CLOSE),
        (exchange(response_body_bytes=7),),
        sides=(CLIENT_SIDE,),
    ),
    *(
        Case(
            f"{line.decode()}",
            (rq(post(CHUNKS, line)), rs(response(b"200 OK", CHUNKS, line)), rq(GET), rs(OK)),
            (exchange(method=b"POST", request_body_bytes=15, response_body_bytes=15), exchange()),
        )
        for line in (
            b"Transfer-Encoding: gzip, chunked",
            b"transfer-ENCODING:CHUNKED",
            b"Transfer-Encoding: \t Chunked \t",
            b"Transfer-Encoding: , chunked",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        )
    ),
    Case(
        "an empty member after chunked",
        (rq(post(CHUNKS, b"Transfer-Encoding: chunked,")), rs(OK), rq(GET), rs(OK)),
        (exchange(method=b"POST", request_body_bytes=15), exchange()),
    ),
    Case(
        "a response with another coding ends with its connection",
        (rq(GET), rs(response(b"200 OK", b"hello", b"Transfer-Encoding: gzip", b"Content-Length: 2")), EOF, CLOSE),
        (exchange(response_body_bytes=5),),
        sides=(CLIENT_SIDE,),
    ),
    Case(
        "empty lines before a request",
        (rq(b"\r\n" + GET), rs(OK), rq(post(b"hello\r\n", LENGTH_5)), rs(OK), rq(b"\r\n\n" + GET), rs(OK)),
        (exchange(), exchange(method=b"POST", request_body_bytes=5), exchange()),
    ),
    Case(
        "bare line feeds",
        (
            rq(b"POST /x HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello"),
            rs(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n"),
            rq(GET),
            rs(OK),
        ),
        (exchange(method=b"POST", target=b"/x", request_body_bytes=5, response_body_bytes=5), exchange()),
    ),
    *(
        Case(
            f"framing after 16 KiB of {name} fields",
            (
                rq(post(b"hello", *fields, b"User-Agent: u", LENGTH_5)),
                rs(response(b"200 OK", CHUNKS, *fields, CHUNKED)),
                rq(GET),
                rs(OK),
            ),
            (exchange(method=b"POST", user_agent=b"u", request_body_bytes=5, response_body_bytes=15), exchange()),
        )
        for name, fields in (("long", LONG_FIELDS), ("short", SHORT_FIELDS))
    ),
    Case(
        "names in odd case",
        (
            rq(
                b"POST / HTTP/1.1\r\nhOST: a\r\nuser-AGENT: u\r\nTraceParent: p\r\n"
                b"TRACESTATE: s\r\ncONTENT-lENGTH: 2\r\n\r\nhi"
            ),
            rs(OK),
        ),
        (exchange(method=b"POST", user_agent=b"u", traceparent=b"p", tracestate=b"s", request_body_bytes=2),),
    ),
    Case(
        "names that begin or end as known ones do",
        (
            rq(
                b"POST / HTTP/1.1\r\nHostile: x\r\nX-Host: x\r\nContent-Length-X: 9\r\nX-Content-Length: 9\r\n"
                b"Host : x\r\nTransfer-Encodings: chunked\r\nContent-Lengt: 9\r\n Host: x\r\nHost\r\n"
                b"Content-Length\r\nHost: a\r\n\r\n"
            ),
            rs(HI),
        ),
        (exchange(method=b"POST", response_body_bytes=2),),
    ),
    Case(
        "empty values",
        (rq(b"GET / HTTP/1.1\r\nHost:\r\nUser-Agent: \r\ntraceparent:\t \r\ntracestate:\n\r\n"), rs(OK)),
        (exchange(host=b""),),
    ),
    Case(
        "blanks around values",
        (rq(b"GET / HTTP/1.1\r\nHost: \t a \t\r\nUser-Agent: b c \r\ntraceparent: d  \r\n\r\n"), rs(OK)),
        (exchange(user_agent=b"b c", traceparent=b"d"),),
    ),
    Case(
        "repeated tracestate",
        (rq(get(b"/", b"tracestate: a=1", b"X: y", b"tracestate: b=2,c=3", b"Tracestate: ", b"tracestate: d")), rs(OK)),
        (exchange(tracestate=b"a=1,b=2,c=3,d"),),
    ),
    Case(
        "repeated Host and User-Agent, of which the last counts",
        (rq(get(b"/", b"User-Agent: " + b"u" * 200, b"Host: b", b"User-Agent: v")), rs(OK)),
        (exchange(host=b"b", user_agent=b"v"),),
    ),
    Case(
        "a CR in a value",
        (rq(b"GET / HTTP/1.1\r\nHost: a\rb\r\r\nUser-Agent: \r\ru\r\r\n\r\n"), rs(OK)),
        (exchange(host=b"a\rb", user_agent=b"u"),),
    ),
    Case(
        "repeated traceparent",
        (rq(get(b"/", b"traceparent: a", b"traceparent: b")), rs(OK)),
        (exchange(traceparent=b"a,b"),),
    ),
)

LONG = (
    Case(
        "texts longer than their bounds",
        (
            rq(
                b"M" * 40
                + b" /"
                + b"t" * 700
                + b" HTTP/1.1\r\nHost: "
                + b"h" * 300
                + b"\r\nUser-Agent: "
                + b"u" * 200
                + b"\r\ntraceparent: "
                + b"p" * 70
                + b"\r\ntracestate: "
                + b"s" * 300
                + b"\r\nContent-Length: 2\r\n\r\nhi"
            ),
            rs(HI),
        ),
        (
            exchange(
                method=b"M" * 32,
                target=b"/" + b"t" * 639,
                host=b"h" * 256,
                user_agent=b"u" * 192,
                traceparent=b"p" * 64,
                tracestate=b"s" * 256,
                truncated=63,
                request_body_bytes=2,
                response_body_bytes=2,
            ),
        ),
    ),
    Case(
        "method and target as long as their bounds",
        (rq(b"M" * 32 + b" /" + b"t" * 639 + b" HTTP/1.1\r\nHost: a\r\n\r\n"), rs(OK)),
        (exchange(method=b"M" * 32, target=b"/" + b"t" * 639),),
    ),
    Case(
        "values as long as their bounds",
        (
            rq(
                b"GET / HTTP/1.1\r\nHost: "
                + b"h" * 256
                + b"\r\nUser-Agent: "
                + b"u" * 192
                + b"\r\ntraceparent: "
                + b"p" * 64
                + b"\r\ntracestate: "
                + b"s" * 256
                + b"\r\n\r\n"
            ),
            rs(OK),
        ),
        (exchange(host=b"h" * 256, user_agent=b"u" * 192, traceparent=b"p" * 64, tracestate=b"s" * 256),),
    ),
    Case(
        "a second tracestate past the bound",
        (rq(get(b"/", b"tracestate: " + b"s" * 250, b"tracestate: " + b"t" * 20)), rs(OK)),
        (exchange(tracestate=b"s" * 250 + b"," + b"t" * 5, truncated=2),),
    ),
    Case(
        "a second tracestate that finds no room at all",
        (rq(get(b"/", b"tracestate: " + b"s" * 255, b"tracestate: tuv")), rs(OK)),
        (exchange(tracestate=b"s" * 255, truncated=2),),
    ),
    Case(
        "a target of 8 KiB",
        (rq(get(b"/" + b"t" * 8191)), rs(OK), rq(GET), rs(HI)),
        (exchange(target=b"/" + b"t" * 639, truncated=1), exchange(response_body_bytes=2)),
    ),
    Case(
        "bodies of 100 KB",
        (
            rq(post(b"x" * 100_000, b"Content-Length: 100000")),
            rs(response(b"200 OK", b"y" * 100_000, b"Content-Length: 100000")),
        ),
        (exchange(method=b"POST", request_body_bytes=100_000, response_body_bytes=100_000),),
    ),
    Case(
        "a hundred small chunks in a call",
        (rq(GET), rs(response(b"200 OK", b"3\r\nabc\r\n" * 100 + b"0\r\n\r\n", CHUNKED)), rq(GET), rs(OK)),
        (exchange(response_body_bytes=300), exchange()),
    ),
)

OTHERS = (
    *(
        Case(f"{name} on a new connection", (rq(data), rs(b"\0other")), off=True)
        for name, data in {
            "RTSP": b"OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            "SIP": b"INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/TCP d\r\n\r\n",
            "SMTP": b"EHLO a.example\r\nMAIL FROM:<b@c>\r\n",
            "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(40)),
            "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            "Redis": b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
            "inline Redis": b"SET a b\r\n",
            "PostgreSQL": b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            "HTTP/0.9": b"GET /\r\n",
            "HTTP/3.0": b"GET / HTTP/3.0\r\n\r\n",
            "a method of blanks": b" / HTTP/1.1\r\n\r\n",
        }.items()
    ),
    *(
        Case(f"{name}, whose server speaks first", (rs(data), rq(b"EHLO a\r\n")), off=True)
        for name, data in {
            "SMTP": b"220 a.example ESMTP\r\n",
            "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
            "MySQL": b"\x4a\0\0\0\x0a8.0",
        }.items()
    ),
    Case(
        "HTTP/2 preface",
        (rq(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4"), rs(b"\0\0\0\4"), rq(GET), rs(OK)),
        counters={"unseen_http2": 1},
        off=True,
    ),
    *(
        Case(
            f"a request answered with {data!r}", (rq(GET), rs(data)), (exchange(0, failure=INVALID_RESPONSE),), off=True
        )
        for data in (
            b"SSH-2.0-x\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n",
            b"HTTP/1.1 2000\r\n",
            b"\0\1\2",
            b"ICY 200 OK\r\n",
        )
    ),
    Case(
        "the second of two answered with another protocol",
        (rq(GET), rs(HI), rq(get(b"/2")), rs(b"\0\0\0")),
        (exchange(response_body_bytes=2), exchange(0, target=b"/2", failure=INVALID_RESPONSE)),
        off=True,
    ),
    Case(
        "a response to no request",
        (rs(response(b"408 Request Timeout", b"hi", b"Content-Length: 2")), rq(GET), rs(HI)),
        (exchange(response_body_bytes=2),),
        {"unpaired_responses": 1},
    ),
    Case(
        "a response to no request until close",
        (rs(response(b"408 Request Timeout", b"hi")), EOF, CLOSE),
        counters={"unpaired_responses": 1},
    ),
    Case(
        "another protocol, whose server does not answer",
        tuple(rq(b"<13>a line of a log\n") for _ in range(9)),
        off=True,
        split=False,
    ),
    *(
        Case(
            f"{name}, answered as HTTP, then a request",
            (rq(data), rs(response(b"400 Bad Request", b"", b"Content-Length: 0")), rq(GET), rs(HI)),
            (exchange(response_body_bytes=2),),
            {"unpaired_responses": 1},
            split=False,
        )
        for name, data in {
            "no method": b"G@T /x HTTP/1.1\r\n\r\n",
            "HTTP/2.0 over HTTP/1": b"GET /v2 HTTP/3.0\r\n\r\n",
            "prose": b"app1 saw request GET /x HTTP/1.1\n",
        }.items()
    ),
    *(
        Case(
            f"the PROXY protocol, version {version}",
            (rq(header + GET), rs(OK), rq(GET), rs(HI)),
            (exchange(), exchange(response_body_bytes=2)),
            split=False,
            pieced=False,
        )
        for version, header in (
            (1, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
            (2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\1\x0a\0\0\2\0\1\0\2"),
        )
    ),
    Case(
        "the PROXY protocol, where nothing may stand before a request",
        (rq(GET), rs(OK), rq(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GET), rs(HI), rq(GET), rs(HI)),
        (exchange(), exchange(response_body_bytes=2)),
        {"desync_invalid": 1},
        split=False,
    ),
    *(
        Case(
            f"a target with {name}",
            (rq(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"), rs(OK)),
            (exchange(target=kept, truncated=cut),),
        )
        for name, target, kept, cut in (
            ("an escape", b"/\x1b[31mred", b"/\x1b[31mred", 0),
            ("a DEL and a tab", b"/x\x7f\ty", b"/x\x7f\ty", 0),
            ("a blank before it", b" /x", b"/x", 0),
            ("a blank after it", b"/x ", b"/x", 0),
            ("blanks in it", b"/x y z", b"/x", 1),
        )
    ),
    Case("a blank after the version", (rq(b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), rs(OK)), (exchange(),)),
    Case(
        "a tunnel that is used before it is granted",
        (
            rq(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
            rq(b"\x16\x03\x01hello"),
            rs(b"HTTP/1.1 200 OK\r\n\r\n"),
            rs(b"\x16"),
        ),
        (exchange(method=b"CONNECT", target=b"a:443"),),
        off=True,
    ),
    Case(
        "a tunnel that is refused, then granted",
        (
            rq(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
            rs(response(b"407 No", b"who", b"Content-Length: 3")),
            rq(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
            rs(b"HTTP/1.1 200 OK\r\n\r\n"),
        ),
        (
            exchange(407, method=b"CONNECT", target=b"a:443", response_body_bytes=3),
            exchange(method=b"CONNECT", target=b"a:443"),
        ),
        off=True,
    ),
    Case(
        "a second response to one request",
        (rq(GET), rs(HI + OK), rq(GET), rs(OK)),
        (exchange(response_body_bytes=2), exchange()),
        {"unpaired_responses": 1},
    ),
    Case(
        "chunked gone wrong, then the next request",
        (rq(GET), rs(response(b"200 OK", b"5\r\nhelloX\r\n0\r\n\r\n", CHUNKED)), rq(get(b"/2")), rs(HI)),
        (exchange(target=b"/2", response_body_bytes=2),),
        {"desync_invalid": 1, "lost_desync": 1},
        split=False,
    ),
    Case(
        "a head that cannot be read, then the next request",
        (rq(GET), sendfile(HI), rq(get(b"/2")), rs(HI)),
        (exchange(target=b"/2", response_body_bytes=2),),
        {"desync_unreadable": 1, "lost_desync": 1},
        split=False,
    ),
    Case(
        "a body that cannot be read",
        (rq(GET), rs(response(b"200 OK", b"", b"Content-Length: 90")), sendfile(b"\0" * 90), rq(GET), rs(HI)),
        (exchange(response_body_bytes=90), exchange(response_body_bytes=2)),
    ),
)

EARLY = (
    Case(
        "413 while the body is being sent, which goes on",
        (
            rq(post(b"01234", b"Content-Length: 20")),
            rs(response(b"413 Too Large", b"no", b"Content-Length: 2")),
            rq(b"567890123456789"),
            rq(GET),
            rs(HI),
        ),
        (exchange(413, method=b"POST", request_body_bytes=5, response_body_bytes=2), exchange(response_body_bytes=2)),
    ),
    Case(
        "413 while a chunked body is being sent, which goes on",
        (
            rq(post(b"5\r\nhello\r\n5\r\nwor", CHUNKED)),
            rs(response(b"413 No", b"", b"Content-Length: 0")),
            rq(b"ld\r\n0\r\n\r\n" + GET),
            rs(HI),
        ),
        (exchange(413, method=b"POST", request_body_bytes=8), exchange(response_body_bytes=2)),
    ),
    Case(
        "a response that begins while the body is being sent",
        (
            rq(post(b"01234", b"Content-Length: 10")),
            rs(response(b"200 OK", b"he", LENGTH_5)),
            rq(b"56789"),
            rs(b"llo"),
            rq(GET),
            rs(OK),
        ),
        (exchange(method=b"POST", request_body_bytes=10, response_body_bytes=5), exchange()),
    ),
    Case(
        "431 before the head is whole, which goes on",
        (
            rq(b"GET / HTTP/1.1\r\nHost: a\r\nX: "),
            rs(response(b"431 Too Large", b"", b"Content-Length: 0")),
            rq(b"y\r\n\r\n" + GET),
            rs(HI),
        ),
        (exchange(431), exchange(response_body_bytes=2)),
    ),
    Case(
        "414 before the request line is whole",
        (rq(b"GET /" + b"x" * 20), rs(response(b"414 Too Long", b"", b"Content-Length: 0")), CLOSE),
        (exchange(414, target=b"/" + b"x" * 20, host=b"", http_minor=0),),
    ),
    Case(
        "414 before the request line is whole, which goes on",
        (
            rq(b"GET /" + b"x" * 20),
            rs(response(b"414 Too Long", b"", b"Content-Length: 0")),
            rq(b"xx HTTP/1.1\r\n\r\n" + GET),
            rs(HI),
        ),
        (exchange(414, target=b"/" + b"x" * 20, host=b"", http_minor=0), exchange(response_body_bytes=2)),
    ),
    Case(
        "400 before the request line is whole, which then is none",
        (rq(b"GET /x"), rs(response(b"400 No", b"hel", LENGTH_5)), rq(b"\r\n"), rs(b"lo")),
        counters={"desync_invalid": 1, "lost_desync": 1},
    ),
    Case(
        "a response that begins before the request",
        (rs(b"HTTP/1.1 408 Too"), rq(GET), rs(b" slow\r\nContent-Length: 2\r\n\r\nhi"), rq(get(b"/2")), rs(HI)),
        (exchange(target=b"/2", response_body_bytes=2),),
        {"unpaired_responses": 1, "lost_desync": 1},
        split=False,
    ),
    Case(
        "a response that begins before the request and goes wrong",
        (rs(b"HTTP/1.1 408"), rq(GET), rs(b"8\r\n\r\n")),
        counters={"desync_invalid": 1, "lost_desync": 1},
    ),
)


def ended(name: str, client: tuple[Step, ...], server: tuple[Step, ...], **records: Any) -> tuple[Case, ...]:
    """Make the same connection's two cases: what each side sees of its end, and what comes of it there."""
    return (
        Case(f"{name} (client's side)", client, records["client_side"], sides=(CLIENT_SIDE,)),
        Case(f"{name} (server's side)", server, records["server_side"], sides=(SERVER_SIDE,)),
    )


CUT = response(b"200 OK", b"hel", LENGTH_5)
CUT_CHUNKS = response(b"200 OK", b"5\r\nhello\r\n5\r\nw", CHUNKED)
ENDS = (
    *ended(
        "the server closes before it answers",
        (rq(GET), EOF, CLOSE),
        (rq(GET), CLOSE),
        client_side=(exchange(0, failure=CONNECTION_CLOSED),),
        server_side=(exchange(0, failure=CONNECTION_CLOSED),),
    ),
    *ended(
        "the client closes before it is answered",
        (rq(GET), CLOSE),
        (rq(GET), EOF, CLOSE),
        client_side=(exchange(0, failure=CLIENT_CLOSED),),
        server_side=(exchange(0, failure=CLIENT_CLOSED),),
    ),
    *ended(
        "the peer resets before the answer",
        (rq(GET), error(ECONNRESET), CLOSE),
        (rq(GET), error(ECONNRESET), CLOSE),
        client_side=(exchange(0, failure=ERRNO, error_number=ECONNRESET),),
        server_side=(exchange(0, failure=CLIENT_CLOSED, error_number=ECONNRESET),),
    ),
    *ended(
        "the connection times out before the answer",
        (rq(GET), error(ETIMEDOUT), CLOSE),
        (rq(GET), error(ETIMEDOUT), CLOSE),
        client_side=(exchange(0, failure=TIMEOUT, error_number=ETIMEDOUT),),
        server_side=(exchange(0, failure=CLIENT_CLOSED, error_number=ETIMEDOUT),),
    ),
    *ended(
        "the server closes in the answer's body",
        (rq(GET), rs(CUT), EOF, CLOSE),
        (rq(GET), rs(CUT), CLOSE),
        client_side=(exchange(failure=INCOMPLETE, response_body_bytes=3),),
        server_side=(exchange(failure=INCOMPLETE, response_body_bytes=3),),
    ),
    *ended(
        "the server closes in the answer's chunks",
        (rq(GET), rs(CUT_CHUNKS), EOF, CLOSE),
        (rq(GET), rs(CUT_CHUNKS), CLOSE),
        client_side=(exchange(failure=INCOMPLETE, response_body_bytes=6),),
        server_side=(exchange(failure=INCOMPLETE, response_body_bytes=6),),
    ),
    *ended(
        "the answer's body ends in a reset",
        (rq(GET), rs(response(b"200 OK", b"hello")), error(ECONNRESET), CLOSE),
        (rq(GET), rs(response(b"200 OK", b"hello")), error(ECONNRESET), CLOSE),
        client_side=(exchange(failure=INCOMPLETE, error_number=ECONNRESET, response_body_bytes=5),),
        server_side=(exchange(failure=INCOMPLETE, error_number=ECONNRESET, response_body_bytes=5),),
    ),
    *ended(
        "the server closes in the answer's head",
        (rq(GET), rs(b"HTTP/1.1 200 OK\r\nContent-Le"), EOF, CLOSE),
        (rq(GET), rs(b"HTTP/1.1 200 OK\r\nContent-Le"), CLOSE),
        client_side=(exchange(200, failure=INCOMPLETE),),
        server_side=(exchange(200, failure=INCOMPLETE),),
    ),
    *ended(
        "the client closes in the answer's body",
        (rq(GET), rs(CUT), CLOSE),
        (rq(GET), rs(CUT), EOF, CLOSE),
        client_side=(exchange(failure=INCOMPLETE, response_body_bytes=3),),
        server_side=(exchange(failure=INCOMPLETE, response_body_bytes=3),),
    ),
    *ended(
        "the client closes in an answer that ends with its connection",
        (rq(GET), rs(response(b"200 OK", b"hello")), CLOSE),
        (rq(GET), rs(response(b"200 OK", b"hello")), error(ECONNRESET), CLOSE),
        client_side=(exchange(failure=INCOMPLETE, response_body_bytes=5),),
        server_side=(exchange(failure=INCOMPLETE, error_number=ECONNRESET, response_body_bytes=5),),
    ),
    *ended(
        "the client closes in its request's body",
        (rq(post(b"hel", LENGTH_5)), CLOSE),
        (rq(post(b"hel", LENGTH_5)), EOF, CLOSE),
        client_side=(exchange(0, method=b"POST", request_body_bytes=3, failure=CLIENT_CLOSED),),
        server_side=(exchange(0, method=b"POST", request_body_bytes=3, failure=CLIENT_CLOSED),),
    ),
    *ended(
        "the client closes in its request's head",
        (rq(get()[:-4]), CLOSE),
        (rq(get()[:-4]), EOF, CLOSE),
        client_side=(exchange(0, failure=CLIENT_CLOSED),),
        server_side=(exchange(0, failure=CLIENT_CLOSED),),
    ),
    *ended(
        "the client closes in its request line",
        (rq(b"GET / HTTP/1"), CLOSE),
        (rq(b"GET / HTTP/1"), EOF, CLOSE),
        client_side=(),
        server_side=(),
    ),
    *ended(
        "the client shuts down its side and is answered",
        (rq(GET), SHUTDOWN, rs(HI), EOF, CLOSE),
        (rq(GET), EOF, rs(HI), CLOSE),
        client_side=(exchange(response_body_bytes=2),),
        server_side=(exchange(response_body_bytes=2),),
    ),
    *ended(
        "the client shuts down its side and is answered until close",
        (rq(GET), SHUTDOWN, rs(response(b"200 OK", b"hi")), EOF, CLOSE),
        (rq(GET), EOF, rs(response(b"200 OK", b"hi")), CLOSE),
        client_side=(exchange(response_body_bytes=2),),
        server_side=(exchange(response_body_bytes=2),),
    ),
    *ended(
        "pipelined requests, of which one is answered",
        (rq(get(b"/1") + get(b"/2") + get(b"/3")), rs(HI), EOF, CLOSE),
        (rq(get(b"/1") + get(b"/2") + get(b"/3")), rs(HI), CLOSE),
        client_side=(
            exchange(target=b"/1", response_body_bytes=2),
            exchange(0, target=b"/2", failure=CONNECTION_CLOSED),
            exchange(0, target=b"/3", failure=CONNECTION_CLOSED),
        ),
        server_side=(
            exchange(target=b"/1", response_body_bytes=2),
            exchange(0, target=b"/2", failure=CONNECTION_CLOSED),
            exchange(0, target=b"/3", failure=CONNECTION_CLOSED),
        ),
    ),
    *ended(
        "the server closes in a response that began before the request",
        (rs(b"HTTP/1.1 408 Too"), rq(GET), EOF, CLOSE),
        (rs(b"HTTP/1.1 408 Too"), rq(GET), CLOSE),
        client_side=(exchange(0, failure=CONNECTION_CLOSED),),
        server_side=(exchange(0, failure=CONNECTION_CLOSED),),
    ),
    Case("an idle connection is closed", (rq(GET), rs(HI), EOF, CLOSE), (exchange(response_body_bytes=2),)),
    Case("an unused connection is closed", (EOF, CLOSE)),
    Case("an unused connection closes", (CLOSE,)),
)

MID_STREAM = tuple(
    Case(
        name,
        (*before, rq(get(b"/2")), rs(HI)),
        (exchange(target=b"/2", response_body_bytes=2),),
        born=False,
        split=False,
    )
    for name, before in (
        ("before a request", ()),
        ("in a response's body", (rs(b"\0\1\2 of a body\r\n"),)),
        ("in a request's body", (rq(b"\0\1\2 of a body\r\n"), rs(HI))),
        ("in a request's body of one line", (rq(b'{"a": 1}'), rs(HI))),
        ("in a request's body of words", (rq(b"of a body"), rs(HI))),
        ("in a request's body of one word", (rq(b"body"), rs(HI))),
        ("in a request's body of words, by two calls", (rq(b"of a body"), rq(b"and more"), rs(HI))),
        ("in a request's head", (rq(b"Accept: */*\r\nHost: x\r\n\r\n"), rs(HI))),
        ("in a response's body of words", (rs(b"of a body"),)),
        ("at the end of a line of a response", (rs(b"\r\n"),)),
        ("before a response", (rs(HI),)),
        ("in a response's head", (rs(b"Server: x\r\n\r\nhi"),)),
    )
)

CASES = (*MESSAGES, *FRAMING, *LONG, *OTHERS, *EARLY, *ENDS, *MID_STREAM)
