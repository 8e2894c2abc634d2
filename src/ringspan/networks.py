"""Networks and other peers that settings name, and where a proxy says for whom it speaks."""

from __future__ import annotations

import ipaddress
from typing import Any

from ringspan import values
from ringspan.errors import UsageError

UNIX = "unix"
PROXY_PROTOCOL = "proxy"
SOURCES = ("x-forwarded-for", "forwarded", PROXY_PROTOCOL)


def network(value: Any, where: str) -> str:
    """Return a network as it is written, or `unix`; raises UsageError."""
    text: str = values.text(value, where)
    if text == UNIX:
        return text
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{where}: {error}", "for example 10.0.0.0/8, 2001:db8::/32, or unix") from error
    return text
