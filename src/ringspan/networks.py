"""Networks and other peers that settings name, and where a proxy says for whom it speaks."""

from __future__ import annotations

import ipaddress
from typing import Any

from ringspan import values
from ringspan.errors import UsageError

UNIX = "unix"
PROXY_PROTOCOL = "proxy"
# Of JSON Schema, which can tell no more.
FORM = r"^(?:unix|[0-9.]+(?:/[0-9.]+)?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:/[0-9]+)?)$"
SOURCES = ("x-forwarded-for", "forwarded", PROXY_PROTOCOL)


def network(value: Any, where: str) -> str:
    """Return a network as it is written, of IPv4 as IPv4, or `unix`; raises UsageError."""
    text: str = values.text(value, where)
    if text == UNIX:
        return text
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}", "for example 10.0.0.0/8, 2001:db8::/32, or unix") from error
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    # Peers are IPv4 ones, however the socket has them: ::ffff:0:0/96 would be of none.
    return f"{mapped}/{found.prefixlen - 96}" if mapped and found.prefixlen >= 96 else text
