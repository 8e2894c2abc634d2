"""The bytes of requests and responses, and the talks made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .peer import Script, Step, Talk
from .raw import recv, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST = b"127.0.0.1:@PORT"


def request(line: str = "GET /", *fields: str, body: bytes = b"", host: bytes = HOST, version: str = "1.1") -> bytes:
    """A request; with Content-Length if it has a body."""
    head = [f"{line} HTTP/{version}", *([f"Host: {host.decode()}"] if host else []), *fields]
    return end_head(head, body, sized=bool(body))


def response(
    status: str = "200 OK", *fields: str, body: bytes = b"", sized: bool = True, version: str = "1.1"
) -> bytes:
    """A response; with Content-Length unless it is not sized."""
    return end_head([f"HTTP/{version} {status}", *fields], body, sized=sized)


def end_head(head: Sequence[str], body: bytes, sized: bool) -> bytes:
    length = [f"Content-Length: {len(body)}"] if sized else []
    return "\r\n".join([*head, *length, "", ""]).encode() + body


def chunked(*chunks: bytes, trailer: str = "", extension: str = "") -> bytes:
    parts = [b"%x%s\r\n%s\r\n" % (len(chunk), extension.encode(), chunk) for chunk in chunks]
    return b"".join(parts) + f"0\r\n{trailer}\r\n".encode()


CHUNKED = "Transfer-Encoding: chunked"
OK = response(body=b"hello")
NO_BODY = response("204 No Content", sized=False)


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def swap(ask: bytes, answer: bytes = OK, **how: str) -> Talk:
    """One request, one response; `by` names how the client sends, `server_by` how the server does, and so on."""
    return turns([(ask, answer)], **how)


def turns(
    pairs: Iterable[tuple[bytes, bytes]],
    by: str = "send",
    server_by: str = "send",
    read_by: str = "recv",
    server_read_by: str = "recv",
) -> Talk:
    """Requests and responses in turn, on one connection."""
    client: list[Step] = []
    server: list[Step] = []
    for ask, answer in pairs:
        client += [send(ask, by=by), recv(len(answer), by=read_by)]
        server += [recv(len(ask), by=server_read_by), send(answer, by=server_by)]
    return Talk(client, server)


def split_request(ask: bytes, at: int, answer: bytes = OK) -> Talk:
    """The request is sent in two calls, and received in two."""
    return Talk([send(ask[:at], ask[at:]), recv(len(answer))], [recv(at), recv(len(ask) - at), send(answer)])


def split_response(answer: bytes, at: int, ask: bytes = request()) -> Talk:
    return Talk([send(ask), recv(at), recv(len(answer) - at)], [recv(len(ask)), send(answer[:at], answer[at:])])


def pipelined(asks: Sequence[bytes], answers: Sequence[bytes]) -> Talk:
    """All requests in one send, then all responses in one."""
    ask, answer = b"".join(asks), b"".join(answers)
    return Talk([send(ask), recv(len(answer))], [recv(len(ask)), send(answer)])


def until_close(ask: bytes, answer: bytes, ending: Script) -> Talk:
    """The response's end is the connection's."""
    return Talk([send(ask), recv(len(answer)), *ending], [recv(len(ask)), send(answer)])
