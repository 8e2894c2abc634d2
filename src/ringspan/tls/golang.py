"""Go executables: which version has built one, and where its crypto/tls lies."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from typing import NamedTuple

from ringspan.tls import pclntab
from ringspan.tls.bounded import Refused, Span
from ringspan.tls.elf import POINTER, Elf

MAGIC = b"\xff Go buildinf:"  # debug/buildinfo
INLINE = 2  # a bit of its flags: the version follows (since Go 1.18), else its address does
FLAGS_AT, POINTERS_AT, TEXT_AT, BYTES = 15, 16, 32, 160
VERSION_MAX, SCANNED_MAX, ALIGNED = 100, 1 << 20, 16
VERSION = re.compile(r"(?:devel )?go1\.(\d+)")
OLDEST = {"x86_64": 17, "aarch64": 18}  # since when calls pass in registers what they are given
OTHER_CALLS = "noregabi"  # unless built with GOEXPERIMENT=noregabi


class Go(NamedTuple):
    """What built an executable (empty if it does not say), and the code of functions."""

    version: str
    functions: dict[str, Span]


def is_go(elf: Elf) -> bool:
    """Whether a file says by its sections that Go has built it."""
    return elf.named(".gopclntab", *pclntab.OTHER_SECTIONS) is not None


def look_into(elf: Elf, names: Collection[str]) -> Go | None:
    """Find functions of a Go executable; None of others; raises Refused where they cannot be found or followed."""
    table = pclntab.of(elf)
    if not table:
        return None
    said = _version(elf)
    matched = VERSION.match(said)
    known = int(matched[1]) if matched else table.since
    oldest = OLDEST[platform.machine()]
    if known < oldest or OTHER_CALLS in said:
        raise Refused(f"built by {said or 'an unknown Go'}: followed is Go 1.{oldest} and later")
    return Go(said.partition(" X:")[0], table.functions(names))


def _version(elf: Elf) -> str:
    at = _build_info(elf)
    if at is None:
        return ""
    raw = elf.file.read(at, min(BYTES, elf.file.size - at))
    if len(raw) <= TEXT_AT:
        return ""
    if raw[FLAGS_AT] & INLINE:
        text = raw[TEXT_AT + 1 : TEXT_AT + 1 + min(raw[TEXT_AT], VERSION_MAX)]
    else:
        header = elf.pointer(elf.address(at) + POINTERS_AT)
        length = POINTER.unpack(elf.file.read(elf.offset(header) + POINTER.size, POINTER.size))[0]
        text = elf.file.read(elf.offset(elf.pointer(header)), min(length, VERSION_MAX))
    return text.decode(errors="replace")


def _build_info(elf: Elf) -> int | None:
    section = elf.named(".go.buildinfo")
    parts = [Span(section.offset, section.size)] if section else [Span(one.offset, one.size) for one in elf.segments]
    for part in parts:
        for found in elf.file.find(MAGIC, Span(part.offset, min(part.size, SCANNED_MAX)), ALIGNED):
            return found.place
    return None
