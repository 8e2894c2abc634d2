"""What a request's target and Host header say about path, query, address and port (RFC 9112 section 3.2)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ringspan import redact

# One with a third slash has no authority, or browsers' idea of one: it is looked at whole.
ABSOLUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?!/)([^/?#]*)(.*)", re.DOTALL)
AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?")


class Target(NamedTuple):
    """A request target, taken apart; authority is of the absolute form alone."""

    path: str
    query: str
    authority: str


def split(target: str, method: str, *, cut: bool = False) -> Target:
    """Take a target apart: origin, absolute, authority (CONNECT) or asterisk form.

    Of one that was cut before its authority ended, nothing is known: what is there may be a part of its userinfo.
    """
    if method == "CONNECT":
        return Target("", "", "" if cut else target)
    absolute = ABSOLUTE.fullmatch(target)
    if cut and absolute and not absolute[2]:
        return Target("", "", "")
    authority, rest = (absolute[1], absolute[2]) if absolute else ("", target)
    path, _, query = rest.partition("#")[0].partition("?")
    return Target(path or ("/" if absolute else ""), query, authority)


def split_authority(authority: str) -> tuple[str, int | None]:
    """Return host (without brackets) and port of an authority; the port is None if there is none."""
    authority = redact.host_of(redact.QUERY.split(authority, maxsplit=1)[0]).partition("/")[0]
    match = AUTHORITY.fullmatch(authority)
    if not match:
        return redact.agent(authority), None  # no host, but whatever was sent
    port = int(match[2]) if match[2] else None
    return redact.agent(match[1].strip("[]")), port if port and port < 65536 else None


def address(family: int, raw: bytes) -> str:
    """Print an address; IPv4-mapped IPv6 as IPv4."""
    if family == 2:  # AF_INET
        return str(ipaddress.IPv4Address(raw.ljust(4, b"\0")[:4]))
    six = ipaddress.IPv6Address(raw.ljust(16, b"\0"))
    return str(six.ipv4_mapped or six)


def unix_path(raw: bytes) -> str:
    """Print a Unix socket's path; an abstract one begins with @ and may hold NULs."""
    text = raw.rstrip(b"\0") if raw[:1] != b"\0" else b"@" + raw[1:].rstrip(b"\0")
    return text.split(b"\0")[0].decode(errors="backslashreplace")
