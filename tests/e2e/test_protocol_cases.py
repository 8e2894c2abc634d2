"""HTTP/1 in every shape that sockets can give it, and what both sides must report of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .expected import Exchange
from .messages import (
    CHUNKED,
    NO_BODY,
    OK,
    bytewise,
    chunked,
    pipelined,
    request,
    response,
    split_request,
    split_response,
    swap,
    turns,
    until_close,
)
from .peer import Talk
from .raw import (
    duplicate,
    half_close,
    handed_over,
    in_child,
    pause,
    recv,
    recv_end,
    send,
)
from .table import Case, Outcome, case, play_all, selected

if TYPE_CHECKING:
    from .stage import Stage

pytestmark = pytest.mark.root


GET = request()
POST = request("POST /in", body=b"0123456789")
POSTED = Exchange("POST", "/in", sent=10, got=5)
LOOKALIKE = request("GET /not-a-request") + response(body=b"nor a response")
BIG = bytes(range(256)) * 4096  # 1 MiB
LONG_FIELD = "X-Long: " + 16000 * "x"
MANY_FIELDS = [f"X-Field-{i}: {40 * 'v'}" for i in range(280)]
CHUNKS = chunked(b"abc", b"d" * 1000, b"GET / HTTP/1.1\r\n\r\n")
CHUNKS_BYTES = 3 + 1000 + 18
NUMBERED = [request(f"GET /{i}") for i in range(100)]
NUMBERED_OK = [response(body=b"x" * i) for i in range(100)]
WEBSOCKET = response("101 Switching Protocols", "Upgrade: websocket", "Connection: upgrade", sized=False)
TUNNELLED = b"\x81\x05GET / HTTP/1.1\r\nHost: inside\r\n\r\n"
CONNECT = b"CONNECT 127.0.0.1:@PORT HTTP/1.1\r\nHost: 127.0.0.1:@PORT\r\n\r\n"
ABSOLUTE = b"GET http://127.0.0.1:@PORT/abs/path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:@PORT\r\n\r\n"
EXPECTING = request("PUT /up", "Expect: 100-continue", "Content-Length: 8")
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n"
CHUNKED_OK = response("200 OK", CHUNKED, sized=False) + chunked(b"abc", b"de")
DUPLEX_HEAD, DUPLEX_ANSWER = request("POST /duplex", CHUNKED), response("200 OK", CHUNKED, sized=False)
PING = b"4\r\nping\r\n"
V6_GET = request(host=b"[::1]:@PORT")
UNIX_GET = request("GET /over/unix?x=1", host=b"localhost")

FRAMING = [
    case("get", swap(GET)),
    case(
        "keep-alive",
        turns([(request(f"GET /k{i}"), response(body=b"x" * i)) for i in range(5)]),
        *(Exchange(path=f"/k{i}", got=i) for i in range(5)),
    ),
    case("query", swap(request("GET /find?q=a%20b&n=1")), Exchange(path="/find", got=5)),
    case("request body", swap(POST), POSTED),
    case("empty response body", swap(GET, response()), Exchange()),
    case("chunked response", swap(GET, response("200 OK", CHUNKED, sized=False) + CHUNKS), Exchange(got=CHUNKS_BYTES)),
    case(
        "chunked request", swap(request("POST /c", CHUNKED) + CHUNKS), Exchange("POST", "/c", sent=CHUNKS_BYTES, got=5)
    ),
    case(
        "chunked both ways, then another",
        turns([(request("POST /c", CHUNKED) + CHUNKS, response("200 OK", CHUNKED, sized=False) + CHUNKS), (GET, OK)]),
        Exchange("POST", "/c", sent=CHUNKS_BYTES, got=CHUNKS_BYTES),
        Exchange(got=5),
    ),
    case(
        "chunk extensions and trailer",
        turns(
            [
                (
                    GET,
                    response("200 OK", CHUNKED, sized=False)
                    + chunked(b"ab", b"c", extension=';q="x"', trailer="X-T: 1\r\n"),
                ),
                (GET, OK),
            ]
        ),
        Exchange(got=3),
        Exchange(got=5),
    ),
    case("empty chunked response", swap(GET, response("200 OK", CHUNKED, sized=False) + chunked()), Exchange()),
    case(
        "chunked overrides content-length",
        turns([(GET, response("200 OK", CHUNKED, "Content-Length: 3", sized=False) + chunked(b"abcdef")), (GET, OK)]),
        Exchange(got=6),
        Exchange(got=5),
    ),
    case(
        "head",
        turns([(request("HEAD /h"), response("200 OK", "Content-Length: 100", sized=False)), (GET, OK)]),
        Exchange("HEAD", "/h"),
        Exchange(got=5),
    ),
    case("204", turns([(request("DELETE /d"), NO_BODY), (GET, OK)]), Exchange("DELETE", "/d", 204), Exchange(got=5)),
    case(
        "304 with content-length",
        turns([(GET, response("304 Not Modified", "Content-Length: 99", sized=False)), (GET, OK)]),
        Exchange(status=304),
        Exchange(got=5),
    ),
    case(
        "204 in mid pipeline",
        pipelined([GET, request("PUT /p", body=b"xy"), request("GET /last")], [OK, NO_BODY, OK]),
        Exchange(got=5),
        Exchange("PUT", "/p", 204, sent=2),
        Exchange(path="/last", got=5),
    ),
    case(
        "1 MiB both ways",
        swap(request("POST /big", body=BIG), response(body=BIG)),
        Exchange("POST", "/big", sent=len(BIG), got=len(BIG)),
    ),
    case(
        "HTTP/1.0 until close",
        until_close(
            request(version="1.0", host=b""), response(body=b"to the end", sized=False, version="1.0"), [recv_end]
        ),
        Exchange(got=10),
    ),
    case(
        "HTTP/1.0 keep-alive",
        turns(
            2
            * [
                (
                    request("GET /", "Connection: keep-alive", version="1.0"),
                    response("200 OK", "Connection: keep-alive", body=b"hello", version="1.0"),
                )
            ]
        ),
        Exchange(got=5),
        Exchange(got=5),
    ),
    case("HTTP/1.1 until close", until_close(GET, response(body=BIG, sized=False), [recv_end]), Exchange(got=len(BIG))),
    case("until close, empty", until_close(GET, response(sized=False), [recv_end]), Exchange()),
    case(
        "until half-close",
        Talk(
            [send(GET), recv(len(response(sized=False)) + 3), recv_end],
            [recv(len(GET)), send(response(sized=False), b"end"), half_close, recv_end],
        ),
        Exchange(got=3),
    ),
    case(
        "gzip until close",
        until_close(GET, response("200 OK", "Transfer-Encoding: gzip", sized=False) + b"gzipped", [recv_end]),
        Exchange(got=7),
    ),
    case("leading CRLF", swap(b"\r\n" + GET)),
    case("bare LF", swap(GET.replace(b"\r", b""), OK.replace(b"\r", b""))),
    case("no reason phrase", swap(GET, response("200 ", body=b"hello"))),
    case(
        "header names in odd case",
        swap(
            request("POST /in", "cOnTeNt-LeNgTh: 10") + b"0123456789",
            response("200 OK", "CONTENT-LENGTH:5", sized=False) + b"hello",
        ),
        POSTED,
    ),
    case(
        "content-length twice, equal",
        turns([(GET, response("200 OK", "Content-Length: 5", body=b"hello")), (GET, OK)]),
        Exchange(got=5),
        Exchange(got=5),
    ),
    case("CRLF after a request body", turns([(POST + b"\r\n", OK), (GET, OK)]), POSTED, Exchange(got=5)),
]

STATUSES = [
    case(f"status {status}", swap(GET, response(f"{status} Reason", body=b"hello")), Exchange(status=status, got=5))
    for status in (200, 201, 206, 301, 302, 400, 401, 404, 418, 429, 499, 500, 501, 503, 504, 599)
]

INTERIM = [
    case(
        "100-continue",
        Talk(
            [send(EXPECTING), recv(25), send(b"12345678"), recv(len(OK))],
            [recv(len(EXPECTING)), send(b"HTTP/1.1 100 Continue\r\n\r\n"), recv(8), send(OK)],
        ),
        Exchange("PUT", "/up", sent=8, got=5),
    ),
    case("100-continue refused", turns([(EXPECTING, response("417 Expectation Failed"))]), Exchange("PUT", "/up", 417)),
    case(
        "103 early hints",
        turns([(GET, response("103 Early Hints", "Link: </x>", sized=False) + OK), (GET, OK)]),
        Exchange(got=5),
        Exchange(got=5),
    ),
    case(
        "102, 103 and 200 apart",
        Talk(
            [send(GET), recv(len(PROCESSING)), recv(len(EARLY_HINTS)), recv(len(OK))],
            [recv(len(GET)), send(PROCESSING), send(EARLY_HINTS), send(OK)],
        ),
        Exchange(got=5),
    ),
    case(
        "101, then frames that look like HTTP",
        Talk(
            [send(request("GET /ws", "Upgrade: websocket")), recv(len(WEBSOCKET)), send(TUNNELLED), recv(len(OK))],
            [recv(len(request("GET /ws", "Upgrade: websocket"))), send(WEBSOCKET), recv(len(TUNNELLED)), send(OK)],
        ),
        Exchange(path="/ws", status=101),
    ),
    case(
        "101 and frames in one send",
        swap(request("GET /ws", "Upgrade: websocket"), WEBSOCKET + TUNNELLED),
        Exchange(path="/ws", status=101),
    ),
    case(
        "CONNECT, then a tunnel",
        Talk(
            [send(CONNECT), recv(39), send(GET), recv(len(OK))],
            [recv(len(CONNECT)), send(b"HTTP/1.1 200 Connection established\r\n\r\n"), recv(len(GET)), send(OK)],
        ),
        Exchange("CONNECT", ""),
    ),
    case(
        "CONNECT refused, then another",
        turns([(CONNECT, response("403 Forbidden", body=b"no")), (GET, OK)]),
        Exchange("CONNECT", "", 403, got=2),
        Exchange(got=5),
    ),
    case(
        "413 while the body is still being sent",
        Talk(
            [
                send(request("POST /large", "Content-Length: 2000"), b"x" * 1000),
                recv(len(response("413 Content Too Large"))),
                send(b"y" * 1000),
                send(GET),
                recv(len(OK)),
            ],
            [
                recv(len(request("POST /large", "Content-Length: 2000")) + 1000),
                send(response("413 Content Too Large")),
                recv(1000),
                recv(len(GET)),
                send(OK),
            ],
        ),
        Exchange("POST", "/large", 413, sent=1000),
        Exchange(got=5),
    ),
]

TARGETS = [
    case("absolute form", swap(ABSOLUTE), Exchange(path="/abs/path", got=5)),
    case("asterisk form", swap(request("OPTIONS *")), Exchange("OPTIONS", "*", got=5, client_path="")),
    case(
        "path of reserved and high bytes",
        swap(request("GET /a;b=c:d@e!$&'()*+,/%C3%A9/~")),
        Exchange(path="/a;b=c:d@e!$&'()*+,/%C3%A9/~", got=5),
    ),
    case("double slash", swap(request("GET //two//slashes")), Exchange(path="//two//slashes", got=5)),
    *(
        case(f"method {method}", swap(request(f"{method} /m")), Exchange(method, "/m", got=5))
        for method in (
            "PATCH",
            "TRACE",
            "OPTIONS",
            "PUT",
            "DELETE",
            "MKCALENDAR",
            "M-SEARCH",
            "PROPFIND",
            "get",
            "X",
            "QUERY",
            "GETT",
            "PRI",
        )
    ),
]

SPLITS = [
    Case(
        "request head split at every byte",
        tuple(split_request(POST, at) for at in range(1, len(POST))),
        (len(POST) - 1) * (POSTED,),
    ),
    Case(
        "response split at every byte",
        tuple(split_response(OK, at) for at in range(1, len(OK))),
        (len(OK) - 1) * (Exchange(got=5),),
    ),
    Case(
        "chunked response split at every byte",
        tuple(split_response(CHUNKED_OK, at) for at in range(1, len(CHUNKED_OK))),
        (len(CHUNKED_OK) - 1) * (Exchange(got=5),),
    ),
    case(
        "request a byte per send", Talk([send(*bytewise(POST)), recv(len(OK))], [recv(len(POST), 1), send(OK)]), POSTED
    ),
    case("response a byte per send", Talk([send(GET), recv(len(OK), 1)], [recv(len(GET)), send(*bytewise(OK))])),
    case(
        "request a byte per send, received whole",
        Talk([send(*bytewise(POST)), recv(len(OK))], [recv(len(POST)), send(OK)]),
        POSTED,
    ),
    case(
        "request received 3 bytes a call", Talk([send(POST), recv(len(OK), 3)], [recv(len(POST), 3), send(OK)]), POSTED
    ),
    case(
        "a byte per iovec, sendmsg",
        Talk(
            [send(*bytewise(POST), by="sendmsg"), recv(len(OK))], [recv(len(POST)), send(*bytewise(OK), by="sendmsg")]
        ),
        POSTED,
    ),
    case(
        "a byte per iovec, writev",
        Talk([send(*bytewise(POST), by="writev"), recv(len(OK))], [recv(len(POST)), send(*bytewise(OK), by="writev")]),
        POSTED,
    ),
    case(
        "1000 iovecs of a byte",
        Talk(
            [send(*bytewise(request("GET /", f"X-Pad: {900 * 'p'}")), by="sendmsg"), recv(len(OK))],
            [recv(len(request("GET /", f"X-Pad: {900 * 'p'}"))), send(OK)],
        ),
    ),
    case(
        "empty iovecs between",
        Talk([send(b"", POST[:9], b"", b"", POST[9:], b"", by="sendmsg"), recv(len(OK))], [recv(len(POST)), send(OK)]),
        POSTED,
    ),
    case(
        "head and body as iovecs, body of 1 MiB",
        Talk(
            [send(GET), recv(len(response(body=BIG)))],
            [recv(len(GET)), send(response(body=BIG)[: -len(BIG)], BIG, by="writev")],
        ),
        Exchange(got=len(BIG)),
    ),
]

HEADS = [
    case(
        "16 KiB head, one long field",
        swap(request("POST /in", LONG_FIELD, body=b"0123456789"), response("200 OK", LONG_FIELD, body=b"hello")),
        POSTED,
    ),
    case(
        "16 KiB head, many fields",
        swap(request("POST /in", *MANY_FIELDS, body=b"0123456789"), response("200 OK", *MANY_FIELDS, body=b"hello")),
        POSTED,
    ),
    case(
        "16 KiB heads on keep-alive",
        turns(
            3 * [(request("POST /in", *MANY_FIELDS, body=b"0123456789"), response("200 OK", LONG_FIELD, body=b"hello"))]
        ),
        *(3 * [POSTED]),
    ),
    case(
        "16 KiB head received in pieces of 1000",
        Talk(
            [send(request("POST /in", *MANY_FIELDS, body=b"0123456789")), recv(len(OK))],
            [recv(len(request("POST /in", *MANY_FIELDS, body=b"0123456789")), 1000), send(OK)],
        ),
        POSTED,
    ),
]

PIPELINES = [
    case(
        f"{count} pipelined requests",
        pipelined(NUMBERED[:count], NUMBERED_OK[:count]),
        *(Exchange(path=f"/{i}", got=i) for i in range(count)),
    )
    for count in (2, 10, 60, 100)
] + [
    case(
        "pipelined, answered one by one",
        Talk(
            [send(*NUMBERED[:10]), recv(sum(map(len, NUMBERED_OK[:10])))],
            [recv(sum(map(len, NUMBERED[:10]))), send(*NUMBERED_OK[:10])],
        ),
        *(Exchange(path=f"/{i}", got=i) for i in range(10)),
    ),
    case(
        "pipelined, received 7 bytes a call",
        Talk(
            [send(b"".join(NUMBERED[:10])), recv(sum(map(len, NUMBERED_OK[:10])), 7)],
            [recv(sum(map(len, NUMBERED[:10])), 7), send(b"".join(NUMBERED_OK[:10]))],
        ),
        *(Exchange(path=f"/{i}", got=i) for i in range(10)),
    ),
    case(
        "pipelined with bodies that look like HTTP",
        pipelined(
            [request("POST /a", body=LOOKALIKE), request("POST /b", body=LOOKALIKE)],
            [response(body=LOOKALIKE), response(body=LOOKALIKE)],
        ),
        *(Exchange("POST", path, sent=len(LOOKALIKE), got=len(LOOKALIKE)) for path in ("/a", "/b")),
    ),
]

BODIES = [
    case(
        "both bodies stream at once",
        Talk(
            [
                send(DUPLEX_HEAD),
                recv(len(DUPLEX_ANSWER)),
                *(5 * [send(PING), recv(len(PING))]),
                send(b"0\r\n\r\n"),
                recv(5),
            ],
            [
                recv(len(DUPLEX_HEAD)),
                send(DUPLEX_ANSWER),
                *(5 * [recv(len(PING)), send(PING)]),
                recv(5),
                send(b"0\r\n\r\n"),
            ],
        ),
        Exchange("POST", "/duplex", sent=20, got=20),
    ),
    case(
        "413, then closed while the body is being sent",
        Talk(
            [
                send(request("POST /large", "Content-Length: 2000"), b"x" * 1000),
                recv(len(response("413 Content Too Large"))),
                recv_end,
            ],
            [recv(len(request("POST /large", "Content-Length: 2000")) + 1000), send(response("413 Content Too Large"))],
        ),
        Exchange("POST", "/large", 413, sent=1000),
    ),
    case(
        "five interim responses",
        turns([(GET, 5 * PROCESSING + OK), (GET, EARLY_HINTS + PROCESSING + OK)]),
        Exchange(got=5),
        Exchange(got=5),
    ),
    case(
        "bodies that look like HTTP",
        turns([(request("POST /p", body=LOOKALIKE), response(body=LOOKALIKE)), (GET, OK)]),
        Exchange("POST", "/p", sent=len(LOOKALIKE), got=len(LOOKALIKE)),
        Exchange(got=5),
    ),
    case(
        "body sent apart, looking like HTTP",
        Talk(
            [send(request("POST /p", f"Content-Length: {len(LOOKALIKE)}"), LOOKALIKE), recv(len(OK))],
            [recv(len(request("POST /p", f"Content-Length: {len(LOOKALIKE)}"))), recv(len(LOOKALIKE)), send(OK)],
        ),
        Exchange("POST", "/p", sent=len(LOOKALIKE), got=5),
    ),
    case(
        "half-close, then response",
        Talk([send(GET), half_close, recv(len(OK)), recv_end], [recv(len(GET)), recv_end, send(OK)]),
    ),
    case(
        "half-close, then response until close",
        Talk(
            [send(GET), half_close, recv(len(response(sized=False)) + 4), recv_end],
            [recv(len(GET)), recv_end, send(response(sized=False) + b"tail")],
        ),
        Exchange(got=4),
    ),
]


HEAD_ONLY = response("200 OK", f"Content-Length: {len(BIG)}", sized=False)
CALLS = [
    *(
        case(f"sent by {by}", swap(POST, by=by, server_by=by), POSTED)
        for by in ("write", "sendmsg", "writev", "sendmmsg", "nonblocking")
    ),
    *(
        case(f"received by {by}", swap(POST, read_by=by, server_read_by=by), POSTED)
        for by in ("read", "recvmsg", "readv", "recvmmsg", "peek")
    ),
    case(
        "sendmmsg of three messages",
        Talk([send(POST[:7], POST[7:50], POST[50:], by="sendmmsg"), recv(len(OK))], [recv(len(POST)), send(OK)]),
        POSTED,
    ),
    case(
        "recvmmsg in pieces",
        Talk([send(POST), recv(len(OK), 10, by="recvmmsg")], [recv(len(POST), 20, by="recvmmsg"), send(OK)]),
        POSTED,
    ),
    case(
        "body discarded by MSG_TRUNC",
        Talk(
            [send(GET), recv(len(HEAD_ONLY)), recv(len(BIG), 5000, by="discard"), send(GET), recv(len(OK))],
            [recv(len(GET)), send(HEAD_ONLY, BIG), recv(len(GET)), send(OK)],
        ),
        Exchange(got=len(BIG)),
        Exchange(got=5),
    ),
    case(
        "response body by sendfile",
        Talk(
            [send(GET), recv(len(HEAD_ONLY) + len(BIG)), send(GET), recv(len(OK))],
            [recv(len(GET)), send(HEAD_ONLY), send(BIG, by="sendfile"), recv(len(GET)), send(OK)],
        ),
        Exchange(got=len(BIG)),
        Exchange(got=5),
    ),
    case(
        "request body by sendfile",
        Talk(
            [send(request("PUT /f", f"Content-Length: {len(BIG)}")), send(BIG, by="sendfile"), recv(len(OK))],
            [recv(len(request("PUT /f", f"Content-Length: {len(BIG)}")) + len(BIG)), send(OK)],
        ),
        Exchange("PUT", "/f", sent=len(BIG), got=5),
    ),
    case(
        "response body by splice",
        Talk(
            [send(GET), recv(len(HEAD_ONLY)), recv(len(BIG), by="splice"), send(GET), recv(len(OK))],
            [recv(len(GET)), send(HEAD_ONLY), send(*[BIG[:4096]] * 256, by="splice"), recv(len(GET)), send(OK)],
        ),
        Exchange(got=len(BIG)),
        Exchange(got=5),
    ),
    case(
        "large bodies, nonblocking, by parts",
        Talk(
            [send(request("POST /n", body=8 * BIG), by="nonblocking"), recv(len(response(body=8 * BIG)), 50_000)],
            [recv(len(request("POST /n", body=8 * BIG)), 50_000), send(response(body=8 * BIG), by="nonblocking")],
        ),
        Exchange("POST", "/n", sent=8 * len(BIG), got=8 * len(BIG)),
    ),
]

DESCRIPTORS = [
    case(
        "descriptor duplicated between exchanges",
        Talk(
            [send(GET), recv(len(OK)), duplicate, send(POST), recv(len(OK))],
            [recv(len(GET)), send(OK), duplicate, recv(len(POST)), send(OK)],
        ),
        Exchange(got=5),
        POSTED,
    ),
    case(
        "descriptor duplicated within an exchange",
        Talk(
            [send(GET[:9]), duplicate, send(GET[9:]), duplicate, recv(len(OK))], [recv(len(GET)), duplicate, send(OK)]
        ),
    ),
    case("forked child answers", Talk([send(GET), recv(len(OK))], [recv(len(GET)), in_child(send(OK))])),
    case(
        "forked child takes the next one",
        Talk(
            [send(GET), recv(len(OK)), send(POST), recv(len(OK))],
            [recv(len(GET)), send(OK), in_child(recv(len(POST)), send(OK))],
        ),
        Exchange(got=5),
        POSTED,
    ),
    case(
        "socket handed to another process, which answers",
        Talk([send(GET), recv(len(OK))], [recv(len(GET)), handed_over(send(OK))]),
    ),
    case(
        "socket handed to another process, which takes the next one",
        Talk(
            [send(GET), recv(len(OK)), send(POST), recv(len(OK))],
            [recv(len(GET)), send(OK), handed_over(recv(len(POST)), send(OK))],
        ),
        Exchange(got=5),
        POSTED,
    ),
    Case("descriptor numbers used again", 20 * (swap(GET),), 20 * (Exchange(got=5),)),
    Case(
        "descriptor number used again after half a request",
        (
            Talk([send(b"GET /half HT")], [recv(12), recv_end]),
            swap(GET),
            Talk([send(b"POST /half HTTP/1.1\r\nContent-Le")], [recv(31), recv_end]),
            swap(POST),
        ),
        (Exchange(got=5), Exchange("POST", "/half", None, error=("client_closed", "client_closed")), POSTED),
    ),
]

# Whoever read the request, or sent it, is gone: the exchange goes on in another process.
READER_GONE = [
    Case(
        f"reader of the request is gone, {family}",
        (Talk([send(GET), recv(len(OK))], [in_child(recv(len(GET))), pause(2.5), send(OK)]),),
        family=family,
        slow=True,
    )
    for family in ("v4", "unix")
]
WRITER_GONE = [
    Case(
        f"writer of the request is gone, {family}",
        (Talk([in_child(send(GET)), recv(len(OK))], [recv(len(GET)), pause(2.5), send(OK)]),),
        family=family,
        slow=True,
    )
    for family in ("v4", "unix")
]

PROTOCOLS = {
    "TLS": (
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(100)),
        b"\x16\x03\x03\x00\x5a\x02" + bytes(80),
    ),
    "RTSP": (b"OPTIONS rtsp://127.0.0.1/stream RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
    "SIP": (b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n"),
    "SMTP": (b"EHLO localhost\r\n", b"250 localhost\r\n"),
    "redis": (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    "redis, inline": (b"PING\r\n", b"+PONG\r\n"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"),
    "memcached": (b"get key\r\n", b"END\r\n"),
    "HTTP/0.9": (b"GET /\r\n", b"<html></html>"),
    "HTTP/2 preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ),
    "text that ends like a request": (b"say GET / HTTP/1.1 aloud\r\n\r\n", b"why?\r\n"),
}
OTHERS = [
    *(Case(f"not HTTP: {name}", (turns(2 * [pair]),), ()) for name, pair in PROTOCOLS.items()),
    Case(
        "not HTTP: server speaks first",
        (Talk([recv(12), send(b"EHLO x\r\n"), recv(5)], [send(b"220 ready.\r\n"), recv(8), send(b"250\r\n")]),),
        (),
    ),
    Case("not HTTP: nothing at all", (Talk([], []),), ()),
    Case("not HTTP, then HTTP on the same connection", (turns([PROTOCOLS["redis"], (GET, OK)]),), ()),
]

ADDRESSES = [
    case(
        "IPv6",
        turns([(V6_GET, OK), (request("POST /in", body=b"0123456789", host=b"[::1]:@PORT"), OK)]),
        Exchange(got=5),
        POSTED,
        family="v6",
    ),
    case("no Host", swap(request(host=b"", version="1.0"))),
    case("unix", turns([(UNIX_GET, OK), (UNIX_GET, OK)]), *(2 * [Exchange(path="/over/unix", got=5)]), family="unix"),
    case(
        "unix, a byte a call",
        Talk([send(*bytewise(UNIX_GET)), recv(len(OK), 1)], [recv(len(UNIX_GET), 1), send(*bytewise(OK))]),
        Exchange(path="/over/unix", got=5),
        family="unix",
    ),
    case(
        "unix, pipelined",
        pipelined(NUMBERED[:10], NUMBERED_OK[:10]),
        *(Exchange(path=f"/{i}", got=i) for i in range(10)),
        family="unix",
    ),
    case(
        "unix, until close",
        until_close(UNIX_GET, response(sized=False) + b"tail", [recv_end]),
        Exchange(path="/over/unix", got=4),
        family="unix",
    ),
    case(
        "unix, 1 MiB",
        swap(request("POST /big", body=BIG), response(body=BIG)),
        Exchange("POST", "/big", sent=len(BIG), got=len(BIG)),
        family="unix",
    ),
    case(
        "unix, descriptor duplicated",
        Talk(
            [send(GET), recv(len(OK)), duplicate, send(POST), recv(len(OK))],
            [recv(len(GET)), send(OK), duplicate, recv(len(POST)), send(OK)],
        ),
        Exchange(got=5),
        POSTED,
        family="unix",
    ),
    case(
        "unix, duplicated within an exchange",
        Talk([send(GET), duplicate, recv(len(OK))], [recv(len(GET)), duplicate, send(OK)]),
        family="unix",
    ),
    case(
        "unix, half-close, then response",
        Talk([send(GET), half_close, recv(len(OK)), recv_end], [recv(len(GET)), recv_end, send(OK)]),
        family="unix",
    ),
]

CASES = [
    *FRAMING,
    *STATUSES,
    *INTERIM,
    *TARGETS,
    *SPLITS,
    *HEADS,
    *PIPELINES,
    *BODIES,
    *CALLS,
    *DESCRIPTORS,
    *READER_GONE,
    *WRITER_GONE,
    *OTHERS,
    *ADDRESSES,
]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, stage: Stage) -> dict[str, Outcome]:
    return play_all(selected(request), stage)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, outcomes: dict[str, Outcome], stage: Stage) -> None:
    outcomes[case.name].check(stage)


def test_names_of_cases_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
