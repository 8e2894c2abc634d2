"""Who the client is behind proxies that are trusted: by Forwarded (RFC 7239), X-Forwarded-For, or the PROXY protocol.

Whoever is not trusted may have written anything, so what is said is read from its end, as far as each hop is trusted.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Any, NamedTuple

from ringspan import contract, target
from ringspan.networks import PROXY_PROTOCOL, UNIX

AF_UNIX, PORTS = 1, 65536
CUT = contract.number("TRUNCATED_FORWARDED")
NODE = re.compile(r"\[([^\]]*)\](?::([0-9]{1,5}|_[\w.-]+))?|([0-9.]+)(?::([0-9]{1,5}|_[\w.-]+))?")  # RFC 7239 section 6
PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~\w-]+)=([!#$%&\'*+.^_`|~\w-]+|"(?:[^"\\]|\\.)*")\s*(;|,|$)')
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2_PROXY, V2_TCP4, V2_TCP6 = 0x21, 0x11, 0x21


class Client(NamedTuple):
    """An address, as text, and a port if one is known."""

    address: str
    port: int | None = None


def _node(text: str) -> Client | None:
    """Read an address with or without a port; None for what is unknown, obfuscated, or no address."""
    match = NODE.fullmatch(text)
    address = _address(match[1] or match[3] if match else text)
    port = (match[2] or match[4]) if match else None
    number = int(port) if port and port.isdigit() else 0
    return Client(address, number or None) if address and number < PORTS else None


def _address(text: str) -> str:
    """Return an address as it is told, "" if there is none; a zone (%eth0) means nothing elsewhere, and is any text."""
    try:
        address = ipaddress.ip_address("" if "%" in text else text)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _listed(text: str) -> list[Client | None]:
    """Read an X-Forwarded-For."""
    return [_node(one.strip()) for one in text.split(",")]


def _elements(text: str) -> list[Client | None]:
    """Read a Forwarded (RFC 7239 section 4); what is no element, or says for= twice, makes all of it unknown."""
    out: list[Client | None] = []
    node: Client | None = None
    is_said = False
    at, last = 0, ","
    while at < len(text) or last != "":
        match = PAIR.match(text, at)
        if not match:
            return [None]
        name, value, last = match.groups()
        if name.lower() == "for":
            if is_said:
                return [None]
            is_said = True
            node = _node(re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value)
        if last != ";":
            out.append(node)
            node, is_said = None, False
        at = match.end()
    return out


def _announced(raw: bytes) -> list[Client | None]:
    """Read a header of the PROXY protocol, of version 1 or 2."""
    if raw.startswith(V2_SIGNATURE):
        return [_announced_in_binary(raw[len(V2_SIGNATURE) :])]
    words = raw.split()
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6") or not words[4].isdigit() or int(words[4]) >= PORTS:
        return [None]
    is_wide = b":" in words[2]
    address = _address(words[2].decode("ascii", "replace"))
    return [Client(address, int(words[4])) if address and is_wide == (words[1] == b"TCP6") else None]


def _announced_in_binary(raw: bytes) -> Client | None:
    raw = raw.ljust(40, b"\0")  # trailing zeros do not count as text
    command, family, size = struct.unpack_from("!BBH", raw)
    wide = family == V2_TCP6
    if command != V2_PROXY or family not in (V2_TCP4, V2_TCP6) or size < (36 if wide else 12):
        return None
    address = ipaddress.ip_address(raw[4:20] if wide else raw[4:8])
    source = _node(str(address))
    return source and Client(source.address, int.from_bytes(raw[36:38] if wide else raw[12:14], "big"))


class Proxies:
    """Which peers are believed, and where they say who their client is."""

    def __init__(self, trusted: list[str], source: str) -> None:
        self._unix = UNIX in trusted
        self._networks = [ipaddress.ip_network(one) for one in trusted if one != UNIX]
        self._source = source

    def client(self, row: Any) -> Client | None:
        """Return the client of a server's row if that is another than its peer, and is known."""
        said = row.forwarded[: row.forwarded_bytes]
        if not said or row.truncated & CUT or not self._trusts_peer(row):
            return None
        if self._source == PROXY_PROTOCOL:
            return _announced(row.forwarded)[0]
        read = _elements if self._source == "forwarded" else _listed
        return self._nearest(read(said.decode("ascii", "replace").strip(" \t\r")))

    def _nearest(self, hops: list[Client | None]) -> Client | None:
        """Return the last hop that is not trusted, or the first if all are; None if one after it is not known."""
        for hop in reversed(hops[1:]):
            if hop is None or not self._trusts(hop.address):
                return hop
        return hops[0]

    def _trusts_peer(self, row: Any) -> bool:
        if row.family == AF_UNIX:
            return self._unix
        return bool(row.family) and self._trusts(target.address(row.family, row.remote_address))

    def _trusts(self, address: str) -> bool:
        one = ipaddress.ip_address(address)
        return any(one in network for network in self._networks)
