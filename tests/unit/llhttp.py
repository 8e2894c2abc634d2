"""What llhttp, Node's parser, reads from a stream of requests or of responses."""

from __future__ import annotations

import httptools


class _Reader:
    """Takes down the messages that are whole."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[int] = []
        self.whole = 0

    def on_message_begin(self) -> None:
        self.heads.append(b"")
        self.bodies.append(0)

    def on_url(self, part: bytes) -> None:
        self.heads[-1] += part

    def on_body(self, part: bytes) -> None:
        self.bodies[-1] += len(part)

    def on_message_complete(self) -> None:
        self.whole += 1


class _Requests(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.parser = httptools.HttpRequestParser(self)
        self.methods: list[bytes] = []

    def on_headers_complete(self) -> None:
        self.methods.append(self.parser.get_method())


class _Responses(_Reader):
    def __init__(self) -> None:
        super().__init__()
        self.parser = httptools.HttpResponseParser(self)
        self.statuses: list[int] = []

    def on_headers_complete(self) -> None:
        self.statuses.append(self.parser.get_status_code())


def _read(reader: _Requests | _Responses, data: bytes) -> bool:
    """Feed all of it; true if it was a row of whole messages."""
    try:
        reader.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return False
    return reader.whole == len(reader.heads)


def requests(data: bytes) -> list[tuple[bytes, bytes, int]] | None:
    """Return method, target and body size of each; None if it does not take them, or the last is not whole."""
    reader = _Requests()
    return list(zip(reader.methods, reader.heads, reader.bodies, strict=True)) if _read(reader, data) else None


def responses(data: bytes) -> list[tuple[int, int]] | None:
    """Return status and body size of each final one, none to a HEAD; None as of requests."""
    reader = _Responses()
    if not _read(reader, data):
        return None
    return [both for both in zip(reader.statuses, reader.bodies, strict=True) if both[0] >= 200]
