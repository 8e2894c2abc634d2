"""Which TLS library a file holds, told by its constants: what is left where functions have no names.

Every TLS derives its keys by labels that the standards spell out, so a file that holds one has them; a file that merely
calls a library, or names one, has not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ringspan.tls.bounded import Bounded, Refused, Span
from ringspan.tls.elf import EXECUTED, Elf, Segment

LABELS = (b"client finished", b"c hs traffic")  # RFC 5246, 7.4.9; RFC 8446, 7.1
ANY_ELF = b"\x7fELF"
WRITTEN = 2  # PF_W
OVERLAP = 128
RUSTLS = "rustls"
NAMES = (  # as libraries name themselves, in messages or by their sources; the group is the version
    (RUSTLS, re.compile(rb"/rustls-(\d+\.\d+\.\d+)[^/\0]{0,20}/src/")),
    ("s2n-tls", re.compile(rb"s2n_client_hello")),
    ("wolfSSL", re.compile(rb"wolfSSL (\d[\d.]*)")),
    ("LibreSSL", re.compile(rb"LibreSSL (\d[\d.]*)")),
    ("BoringSSL", re.compile(rb"ssl/ssl_lib\.cc|BoringSSL")),  # AWS-LC too
    ("OpenSSL", re.compile(rb"OpenSSL (\d+\.\d+\.\d+\w*)[^\0]{0,12} \d{1,2} [A-Z][a-z]{2} \d{4}")),
    ("OpenSSL", re.compile(rb"/statem/statem_")),
    ("GnuTLS", re.compile(rb"GnuTLS (\d[\d.]*)")),
    ("NSS", re.compile(rb"NSS (\d[\d.]*)")),
    ("Mbed TLS", re.compile(rb"[Mm]bed TLS (\d[\d.]*)")),
)


class Evidence(NamedTuple):
    """Of the TLS libraries that a file holds, those that name themselves, with their versions; how much was read."""

    holds: bool = False
    versions: dict[str, str] = {}  # noqa: RUF012 - never written
    bytes_read: int = 0

    def __str__(self) -> str:
        """Name them."""
        return ", ".join(f"{name} {version}".rstrip() for name, version in self.versions.items())


def look_into(fd: int) -> Evidence:
    """Look into an open file; raises Refused where it costs too much, or is not what it says, and OSError."""
    file = Bounded(fd)
    if os.pread(fd, len(ANY_ELF), 0) != ANY_ELF:
        return Evidence()
    parts = _constants(file)
    size = sum(part.size for part in parts)
    if not any(label in raw for raw in _pieces(file, parts) for label in LABELS):
        return Evidence(bytes_read=size)
    return Evidence(True, _versions(fd, parts), 2 * size)


def _constants(file: Bounded) -> list[Span]:
    """Return where constants lie: beside the code, or (older linkers) within; all of a file for another machine."""
    try:
        kept = [one for one in Elf(file).segments if not one.flags & WRITTEN]
    except Refused:
        return [Span(0, file.size)]
    return [_span(one) for one in kept if not one.flags & EXECUTED] or [_span(one) for one in kept]


def _span(segment: Segment) -> Span:
    return Span(segment.offset, segment.size)


def _pieces(file: Bounded, parts: list[Span]) -> Iterator[bytes]:
    for part in parts:
        for _, raw in file.chunks(part.offset, part.size, OVERLAP):
            yield raw


def _versions(fd: int, parts: list[Span]) -> dict[str, str]:
    """Return what names itself there, in the order of the table; as much as is found within the budget of a file."""
    found: dict[int, str] = {}
    try:
        for raw in _pieces(Bounded(fd), parts):
            for number, (_, pattern) in enumerate(NAMES):
                if number not in found and (matched := pattern.search(raw)):
                    found[number] = (matched[1] if pattern.groups else b"").decode()
    except Refused:
        pass
    named: dict[str, str] = {}
    for number in sorted(found):
        named.setdefault(NAMES[number][0], found[number])
    return named
