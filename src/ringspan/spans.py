"""Records to spans: OpenTelemetry's HTTP semantic conventions (semconv 1.44, stable part), attribute by attribute."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)

from ringspan import contract, failures, redact, target, trace_context
from ringspan.model import Facts, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ringspan.clock import Clock
    from ringspan.model import Identity, Route
    from ringspan.proxies import Client, Proxies

CONNECT_FAILURE = contract.number("RECORD_CONNECT_FAILURE")
SERVER = contract.number("ROLE_SERVER")
PEER, SERVED = contract.number("JOIN_PEER"), contract.number("JOIN_SERVED")
AF_UNIX, INTERNET = 1, (2, 10)  # family 0: the socket is not known
DEFAULT_METHODS = "GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH"
KNOWN_METHODS = {
    method.strip()
    for method in (os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS") or DEFAULT_METHODS).upper().split(",")
}
ROUTE_SOURCE = "ringspan.route.source"
TRUNCATED = contract.names("TRUNCATED_")
HTTP_PORT, HTTPS_PORT = 80, 443  # the scheme's (RFC 9110 section 4.2), where the socket has none or is not known
FACTS_MAX = 4096
LATEST_NS = (1 << 63) - 1  # so that the sum of a time and a duration is a u64
STATE_CUT = contract.number("TRUNCATED_TRACESTATE")
TARGET_CUT = contract.number("TRUNCATED_TARGET")
ATTRIBUTE_OF_TEXT = {
    "host": server_attributes.SERVER_ADDRESS,
    "user_agent": user_agent_attributes.USER_AGENT_ORIGINAL,
    "method": http_attributes.HTTP_REQUEST_METHOD_ORIGINAL,
    "forwarded": client_attributes.CLIENT_ADDRESS,
}


def text(raw: bytes) -> str:
    """Decode a header value or target as it came: blanks around it off, bytes that are not UTF-8 escaped."""
    return raw.strip(b" \t\r\0").decode(errors="backslashreplace")


class SpanMaker:
    """Makes spans of rows; identify(row) says whose they are; opt_in names attributes that must be asked for."""

    def __init__(
        self,
        clock: Clock,
        identify: Callable[[Any], Identity],
        opt_in: Iterable[str] = (),
        proxies: Proxies | None = None,
    ) -> None:
        self._proxies = proxies
        self._opt_in = frozenset(opt_in)
        self._clock = clock
        self._identify = identify
        self._facts: dict[tuple[Any, ...], Facts] = {}
        self.forgotten = 0

    def span(self, row: Any, route: Route | None = None) -> Span:
        """Make the span of one row, and of its route if that is known."""
        client = self._proxies.client(row) if self._proxies and row.role == SERVER else None
        facts = self._shared(row, route, client)
        own = {"process.pid": row.tgid}
        if row.namespace_tgid:
            own["process.vpid"] = row.namespace_tgid
        if row.role == SERVER and row.family in INTERNET:
            own[network_attributes.NETWORK_PEER_PORT] = row.remote_port
        if self._opt_in and row.family in INTERNET:
            self._add_ports(own, row, client)
        named = trace_context.parse(text(row.traceparent)) if row.traceparent else None
        return Span(
            facts=facts,
            own=own,
            trace_id=named.trace_id if named else row.trace_id_high << 64 | row.trace_id_low,
            span_id=row.span_id,
            parent_span_id=_parent(row, named),
            parent_is_remote=row.joined != SERVED,
            trace_state=_state(row) if named and row.tracestate else "",
            start_unix_ns=min(self._clock.unix_ns(row.start_ktime_ns), LATEST_NS),
            duration_ns=_between(row.start_ktime_ns, row.end_ktime_ns),
            first_byte_ns=_between(row.start_ktime_ns, row.first_byte_ktime_ns) if row.first_byte_ktime_ns else None,
            request_body_bytes=row.request_body_bytes,
            response_body_bytes=row.response_body_bytes,
            identity=self._identify(row),
        )

    def forget(self) -> None:
        """Describe all anew: what is redacted has changed."""
        self._facts.clear()

    def _shared(self, row: Any, route: Route | None, client: Client | None) -> Facts:
        """Describe a row, once for all that are alike; the oldest are forgotten."""
        key = (route, client and client.address, *_alike(row))
        facts = self._facts.get(key)
        if facts is None:
            facts = describe(row, route)
            self._add_opted_in(facts.attributes, row)
            if client:
                facts.attributes[client_attributes.CLIENT_ADDRESS] = client.address
            if len(self._facts) >= FACTS_MAX:
                del self._facts[next(iter(self._facts))]
                self.forgotten += 1
            self._facts[key] = facts
        return facts

    def _add_ports(self, own: dict[str, int], row: Any, client: Client | None) -> None:
        """Ports differ from span to span; that of a failed connect's own end is not known."""
        if client_attributes.CLIENT_PORT in self._opt_in and row.role == SERVER:
            port = client.port if client else row.remote_port
            own |= {client_attributes.CLIENT_PORT: port} if port else {}
        if network_attributes.NETWORK_LOCAL_PORT in self._opt_in and row.local_port:
            own[network_attributes.NETWORK_LOCAL_PORT] = row.local_port

    def _add_opted_in(self, out: dict[str, Any], row: Any) -> None:
        if url_attributes.URL_SCHEME in self._opt_in and row.kind != CONNECT_FAILURE:
            out[url_attributes.URL_SCHEME] = scheme(row)
        if network_attributes.NETWORK_LOCAL_ADDRESS in self._opt_in and row.family in INTERNET and row.local_port:
            out[network_attributes.NETWORK_LOCAL_ADDRESS] = target.address(row.family, row.local_address)


def _parent(row: Any, named: trace_context.Parent | None) -> int | None:
    """Return the nearest parent: a proved one, unless a traceparent names another than that one's own names."""
    if named and not (row.joined == PEER or (row.joined and row.named_span_id == named.span_id)):
        return named.span_id
    return row.parent_span_id or None


def _between(start_ns: int, end_ns: int) -> int:
    return min(max(0, end_ns - start_ns), LATEST_NS)


def _state(row: Any) -> str:
    return trace_context.state(text(row.tracestate), cut=bool(row.truncated & STATE_CUT))


def _alike(row: Any) -> tuple[Any, ...]:
    """All of a row that its facts are made of."""
    return (
        row.target, row.method, row.host, row.user_agent, row.status, row.kind, row.role, row.failure,
        row.error_number, row.http_minor, row.truncated, row.family, row.remote_address, row.local_address,
        row.unix_path, row.local_port if row.role == SERVER else row.remote_port, row.tls,
    )  # fmt: skip


def describe(row: Any, route: Route | None = None) -> Facts:
    """Say what the conventions want to know of a row, but for its times, ids and numbers of its own."""
    is_connect = row.kind == CONNECT_FAILURE
    attributes = _connect_attributes(row) if is_connect else _exchange_attributes(row)
    error = failures.error_type(row.failure, row.error_number)
    server = row.role == SERVER
    is_error = bool(error) or row.status >= (500 if server else 400)
    if is_error:
        attributes[error_attributes.ERROR_TYPE] = error or str(row.status)
    if route:
        attributes[http_attributes.HTTP_ROUTE] = route.template
        if route.learned:
            attributes[ROUTE_SOURCE] = "learned"
    return Facts(
        name="tcp connect" if is_connect else _name(row, route),
        kind="server" if server else "client",
        is_error=is_error,
        attributes=attributes,
        truncated=_truncated(row),
    )


def _name(row: Any, route: Route | None) -> str:
    """The method, and the route if there is one; never the path."""
    method = text(row.method)
    name = method if method in KNOWN_METHODS else "HTTP"
    return f"{name} {route.template}" if route else name


def scheme(row: Any) -> str:
    """Return the scheme of a request's URL."""
    return "https" if row.tls else "http"


def _truncated(row: Any) -> list[str]:
    names = [name for bit, name in TRUNCATED.items() if row.truncated & bit]
    return [_cut_target(row) if name == "target" else ATTRIBUTE_OF_TEXT.get(name, name) for name in names]


def _cut_target(row: Any) -> str:
    if row.role != SERVER:
        return url_attributes.URL_FULL
    return url_attributes.URL_QUERY if b"?" in row.target else url_attributes.URL_PATH


def _exchange_attributes(row: Any) -> dict[str, Any]:
    method = text(row.method)
    cut = bool(row.truncated & TARGET_CUT)
    parts = target.split(text(row.target), method, cut=cut)
    known = method in KNOWN_METHODS
    out: dict[str, Any] = {http_attributes.HTTP_REQUEST_METHOD: method if known else "_OTHER"}
    if not known:
        out[http_attributes.HTTP_REQUEST_METHOD_ORIGINAL] = method
    if row.status:
        out[http_attributes.HTTP_RESPONSE_STATUS_CODE] = row.status
    out[network_attributes.NETWORK_PROTOCOL_VERSION] = f"1.{row.http_minor}"
    if row.family:
        out[network_attributes.NETWORK_TRANSPORT] = "unix" if row.family == AF_UNIX else "tcp"
    _add_server(out, row, parts)
    _add_peer(out, row)
    if row.role == SERVER:
        out[url_attributes.URL_SCHEME] = scheme(row)
        out[url_attributes.URL_PATH] = redact.path(parts.path, cut=cut and not parts.query)
        if parts.query:
            out[url_attributes.URL_QUERY] = redact.query(parts.query, cut=cut)
    else:
        out[url_attributes.URL_FULL] = redact.url(_full_url(row, method, parts), cut=cut and any(parts))
    if row.user_agent_bytes:
        out[user_agent_attributes.USER_AGENT_ORIGINAL] = redact.agent(text(row.user_agent))
    return out


def _full_url(row: Any, method: str, parts: target.Target) -> str:
    whole = text(row.target) if any(parts) else ""
    if method == "CONNECT":
        return redact.authority(whole)
    if target.ABSOLUTE.fullmatch(whole):
        return whole
    authority = redact.authority(text(row.host))
    if not authority and row.family in INTERNET:
        host = target.address(row.family, row.remote_address)
        authority = f"[{host}]:{row.remote_port}" if ":" in host else f"{host}:{row.remote_port}"
    if whole == "*":  # the asterisk form names the server itself (RFC 9112 section 3.3)
        whole = ""
    if not whole.startswith("/"):
        whole = redact.url(whole)
    return f"{scheme(row)}://{authority or 'localhost'}{'' if whole.startswith('/') or not whole else '/'}{whole}"


def _add_server(out: dict[str, Any], row: Any, parts: target.Target) -> None:
    """Whom the request names: absolute form, else Host; what is missing comes from the socket."""
    host, port = target.split_authority(parts.authority or text(row.host))
    server = row.role == SERVER
    own_port = row.local_port if server else row.remote_port
    if row.tls and host and not server:
        own_port = HTTPS_PORT  # the socket may be a proxy's
    if not host and row.family in INTERNET:
        host = target.address(row.family, row.local_address if server else row.remote_address)
    name = host or target.unix_path(row.unix_path)
    if name or row.family:
        out[server_attributes.SERVER_ADDRESS] = name
    out[server_attributes.SERVER_PORT] = port or own_port or (HTTPS_PORT if row.tls else HTTP_PORT)


def _add_peer(out: dict[str, Any], row: Any) -> None:
    if not row.family:
        return
    if row.family == AF_UNIX:
        path = target.unix_path(row.unix_path)
        if path:
            out[network_attributes.NETWORK_PEER_ADDRESS] = path
        return
    peer = target.address(row.family, row.remote_address)
    out[network_attributes.NETWORK_PEER_ADDRESS] = peer
    if row.role == SERVER:
        out[client_attributes.CLIENT_ADDRESS] = peer
    else:
        out[network_attributes.NETWORK_PEER_PORT] = row.remote_port


def _connect_attributes(row: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if row.family == AF_UNIX:
        path = target.unix_path(row.unix_path)
        out[server_attributes.SERVER_ADDRESS] = out[network_attributes.NETWORK_PEER_ADDRESS] = path
        out[server_attributes.SERVER_PORT] = HTTP_PORT
        out[network_attributes.NETWORK_TRANSPORT] = "unix"
        return out
    peer = target.address(row.family, row.remote_address)
    out[server_attributes.SERVER_ADDRESS] = out[network_attributes.NETWORK_PEER_ADDRESS] = peer
    out[server_attributes.SERVER_PORT] = out[network_attributes.NETWORK_PEER_PORT] = row.remote_port
    out[network_attributes.NETWORK_TRANSPORT] = "tcp"
    return out
