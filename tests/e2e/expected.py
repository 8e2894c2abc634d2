"""What a row must say of an exchange, from HTTP's and OpenTelemetry's point of view; and what one does say."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .peer import Place
    from .tracer import Row

KNOWN_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


@dataclass(frozen=True)
class Seen:
    """One row, reduced to what the tables speak of."""

    kind: str
    name: str
    method: str | None
    method_original: str | None
    path: str
    status: int | None
    sent: int
    got: int
    error: str | None
    span_status: str


@dataclass(frozen=True)
class Exchange:
    """One exchange, as its sides must report it. An error is one word for both, or (server's, client's)."""

    method: str = "GET"
    path: str = "/"
    status: int | None = 200
    sent: int = 0
    got: int = 0
    error: str | tuple[str | None, str | None] | None = None
    client_path: str | None = None
    sides: tuple[str, ...] = ("server", "client")
    client_got: int | None = None

    def seen(self) -> list[Seen]:
        return [self._seen(side) for side in self.sides]

    def _seen(self, side: str) -> Seen:
        client = side == "client"
        known = self.method in KNOWN_METHODS
        error = self._error(client)
        return Seen(
            kind=side,
            name=self.method if known else "HTTP",
            method=self.method if known else "_OTHER",
            method_original=None if known else self.method,
            path=self.client_path if client and self.client_path is not None else self.path,
            status=self.status,
            sent=self.sent,
            got=self.client_got if client and self.client_got is not None else self.got,
            error=error,
            span_status="error" if error else "unset",
        )

    def _error(self, client: bool) -> str | None:
        if isinstance(self.error, tuple):
            return self.error[client]
        if self.error or not self.status:
            return self.error
        return str(self.status) if self.status >= (400 if client else 500) else None


def failed_connect(error: str) -> Seen:
    return Seen("client", "tcp connect", None, None, "", None, 0, 0, error, "error")


def seen(row: Row) -> Seen:
    """Reduce a row; the path is without query and authority, and empty where the target is an authority (CONNECT)."""
    attributes = row["attributes"]
    method = attributes.get("http.request.method")
    target = attributes["url.path"] if "url.path" in attributes else urlsplit(attributes.get("url.full", "")).path
    return Seen(
        kind=row["kind"],
        name=row["name"],
        method=method,
        method_original=attributes.get("http.request.method_original"),
        path=target if method not in (None, "CONNECT") else "",
        status=attributes.get("http.response.status_code"),
        sent=row["request_body_bytes"] or 0,
        got=row["response_body_bytes"] or 0,
        error=attributes.get("error.type"),
        span_status=row["status"],
    )


def order(one: Seen) -> tuple[str, ...]:
    return (one.kind, one.path, one.name, str(one))


def describe(rows: Iterable[Seen]) -> str:
    return "\n".join(f"  {one}" for one in rows) or "  none"


def assert_seen(rows: Sequence[Row], wanted: Iterable[Seen]) -> None:
    """The rows are exactly the wanted ones, in any order, and sound."""
    got, wanted = sorted(map(seen, rows), key=order), sorted(wanted, key=order)
    if got != wanted:
        surplus, missing = list(got), []
        for one in wanted:
            if one in surplus:
                surplus.remove(one)
            else:
                missing.append(one)
        pytest.fail(
            f"expected, and not there:\n{describe(missing)}\nthere, and not expected:\n{describe(surplus)}",
            pytrace=False,
        )
    assert_sound(rows)


def assert_sound(rows: Iterable[Row]) -> None:
    """What holds of every row."""
    rows = list(rows)
    spans = [row["span_id"] for row in rows]
    assert len(set(spans)) == len(spans), "a span_id twice"
    for row in rows:
        attributes = row["attributes"]
        assert len(row["span_id"]) == 16, row
        assert len(row["trace_id"]) == 32, row
        assert int(row["span_id"], 16), row
        assert int(row["trace_id"], 16), row
        assert row["parent_span_id"] != row["span_id"], row
        assert row["duration_ns"] >= 0, row
        assert abs(row["start_unix_ns"] - time.time_ns()) < 600e9, row
        assert attributes["process.pid"], row
        assert row["resource"]["service.name"], row
        assert_timely(row)
        if attributes.get("network.transport") != "unix":
            assert attributes["server.port"], row


def assert_timely(row: Row) -> None:
    first = row["first_byte_ns"]
    if row["attributes"].get("http.response.status_code") is None:
        assert first is None, row
    else:
        assert 0 <= first <= row["duration_ns"], row


def at_port(port: int) -> Callable[[Row], bool]:
    return lambda row: row["attributes"].get("server.port") == port


def at_path(path: str) -> Callable[[Row], bool]:
    """The path is visible as the peer's address, or as the server's where no Host names it."""
    return lambda row: path in (row["attributes"].get("server.address"), row["attributes"].get("network.peer.address"))


def at(place: Place) -> Callable[[Row], bool]:
    return at_path(place.path) if place.path else at_port(place.port)


def one_of(rows: Iterable[Row], kind: str) -> Row:
    """The only row of a kind."""
    (row,) = [row for row in rows if row["kind"] == kind]
    return row
