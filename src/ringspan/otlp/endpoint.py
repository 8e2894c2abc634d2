"""Where and how to send: the OTLP exporters' variables, read as the specification and the SDK's exporters read them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from ringspan import __version__, redact, trusted
from ringspan.errors import UsageError

Signal = Literal["traces", "metrics"]
PROTOCOLS = ("grpc", "http/protobuf")
COMPRESSIONS = ("none", "gzip", "deflate")
DEFAULTS = {"grpc": "http://localhost:4317", "http/protobuf": "http://localhost:4318"}
HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
PEM_MAX, SHOWN_MAX = 1 << 20, 200
USER_AGENT = f"ringspan/{__version__}"


@dataclass(frozen=True)
class Endpoint:
    """One signal's destination; timeout in seconds, as the SDK for Python has it."""

    signal: Signal
    protocol: str
    url: str
    timeout_s: float
    compression: str
    secure: bool
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None


def variable(signal: Signal, name: str) -> tuple[str, str | None]:
    """Return the variable that says something of a signal, its own or the one for all, and its value."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
    if os.environ.get(own):
        return own, os.environ[own]
    shared = f"OTEL_EXPORTER_OTLP_{name}"
    return shared, os.environ.get(shared) or None


def _one_of(signal: Signal, name: str, choices: tuple[str, ...], default: str) -> str:
    where, value = variable(signal, name)
    chosen = (value or default).strip().lower()
    if chosen not in choices:
        raise UsageError(f"{where}: {(value or '')[:SHOWN_MAX]!r} is not one of {', '.join(choices)}")
    return chosen


def wanted(signal: Signal, otlp: str | None) -> bool:
    """Is there anywhere to send a signal to, by flag or by the SDK's variables?"""
    kind = (os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") or "otlp").strip().lower()
    if kind == "none" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if kind != "otlp":
        raise UsageError(f"OTEL_{signal.upper()}_EXPORTER: {kind[:SHOWN_MAX]!r} is not one of otlp, none")
    return bool(otlp or variable(signal, "ENDPOINT")[1])


def _url(signal: Signal, otlp: str | None, protocol: str) -> str:
    """The URL of a signal: a base, be it --otlp or OTEL_EXPORTER_OTLP_ENDPOINT, gets the signal's path over HTTP."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    base = otlp or own or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULTS[protocol]
    if protocol == "grpc" or (own and not otlp):
        return base
    base = base.rstrip("/").removesuffix("/v1/traces").removesuffix("/v1/metrics")
    return f"{base}/v1/{signal}"


def _check(url: str, protocol: str, where: str) -> None:
    """Refuse what cannot be sent to: over gRPC also host:port and unix:path are names (gRPC naming)."""
    named = protocol == "grpc" and url.startswith(("unix:", "dns:", "ipv4:", "ipv6:"))
    try:
        urlsplit(url)  # as it is taken apart later
        parts = urlsplit(url if "://" in url or protocol != "grpc" else f"http://{url.removeprefix('dns:')}")
        good = named or (bool(parts.scheme in ("http", "https") and parts.hostname) and parts.port != 0)
    except ValueError:
        good = named and "//" not in url
    if not good or not url.isprintable():  # of undecodable bytes neither library knows what to do
        quoted = repr(redact.endpoint(url)[:SHOWN_MAX])
        raise UsageError(f"{where}: {quoted} is not a URL that spans can be sent to", f"such as {DEFAULTS[protocol]}")
    if protocol == "grpc" and "@" in url and not url.startswith("unix:"):  # it would be asked for as a host's name
        raise UsageError(f"{where}: user and password are not sent over gRPC", "use OTEL_EXPORTER_OTLP_HEADERS")


def _timeout(signal: Signal) -> float:
    where, value = variable(signal, "TIMEOUT")
    try:
        seconds = float(value) if value else 10.0
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{where}: {(value or '')[:SHOWN_MAX]!r} is not a number of seconds above 0")
    return seconds


def _file(signal: Signal, name: str) -> str | None:
    where, value = variable(signal, name)
    if value and b"-----BEGIN " not in (read_file(value, where) or b""):
        raise UsageError(f"{where}: {value[:SHOWN_MAX]} is not PEM")
    return value


def _headers(signal: Signal) -> dict[str, str]:
    """Read the headers as the SDK does, but refuse what it would leave out; a wrong one may be secret as a whole."""
    where, value = variable(signal, "HEADERS")
    headers: dict[str, str] = {}
    for number, part in enumerate(filter(str.strip, (value or "").split(",")), 1):
        one = parse_env_headers(part, liberal=True)
        good = all(HEADER_NAME.fullmatch(name) and text.isascii() and text.isprintable() for name, text in one.items())
        if not one or not good:
            raise UsageError(
                f"{where}: header {number} has a name or a value that cannot be sent", "give name=value,..."
            )
        headers |= one
    return headers


def _secure(signal: Signal, url: str) -> bool:
    scheme = urlsplit(url).scheme
    if scheme in ("http", "https"):
        return scheme == "https"
    return (variable(signal, "INSECURE")[1] or "false").strip().lower() != "true"


def resolve(signal: Signal, otlp: str | None = None, protocol: str | None = None) -> Endpoint:
    """Read a signal's destination from flags (which win) and variables; raises UsageError that names the variable."""
    chosen = protocol or _one_of(signal, "PROTOCOL", PROTOCOLS, "grpc")
    url = _url(signal, otlp, chosen)
    _check(url, chosen, "--otlp" if otlp else variable(signal, "ENDPOINT")[0])
    key, certificate = _file(signal, "CLIENT_KEY"), _file(signal, "CLIENT_CERTIFICATE")
    if chosen == "grpc" and bool(key) != bool(certificate):
        missing = variable(signal, "CLIENT_CERTIFICATE" if key else "CLIENT_KEY")[0]
        raise UsageError(f"{missing}: not given", "a client certificate and its key go together")
    return Endpoint(
        signal=signal,
        protocol=chosen,
        url=url,
        timeout_s=_timeout(signal),
        compression=_one_of(signal, "COMPRESSION", COMPRESSIONS, "none"),
        secure=_secure(signal, url),
        headers=_headers(signal),
        certificate=_file(signal, "CERTIFICATE"),
        client_key=key,
        client_certificate=certificate,
    )


def read_file(path: str | None, where: str = "") -> bytes | None:
    """Read a certificate or key, if one is named; raises UsageError."""
    if not path:
        return None
    if "-----BEGIN" in path:
        raise UsageError(f"{where}: holds a key or certificate itself", "give the path of a file that holds it")
    return trusted.read(path, PEM_MAX, f"{where}: {path[:SHOWN_MAX]}" if where else path[:SHOWN_MAX])


def names_unix_socket(otlp: str | None, environment: Mapping[str, str]) -> bool:
    """Return whether a receiver is named by a Unix socket's path (gRPC naming)."""
    named = [value for name, value in environment.items() if re.fullmatch(r"OTEL_EXPORTER_OTLP_(\w+_)?ENDPOINT", name)]
    return any(one.startswith("unix:") for one in (otlp or "", *named))
