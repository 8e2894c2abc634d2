"""How much kernel memory the maps will lock, from their definitions in bpf/ and the settings: nothing is compiled.

The kernel's own count of a map (memlock in its fdinfo) is what a test compares this with.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import NamedTuple

from ringspan import contract
from ringspan.files import bpf_folder
from ringspan.probe import maps
from ringspan.probe.settings import ProbeSettings

SCALARS = {f"{sign}{bits}": bits // 8 for sign in "us" for bits in (8, 16, 32, 64)} | {"char": 1, "int": 4}
STRUCT = re.compile(r"^struct (\w+) \{(.*?)^\};", re.DOTALL | re.MULTILINE)
MEMBER = re.compile(r"\s*(?:struct )?(\w+)\s+(\w+)\s*(?:\[(.*?)\])?;", re.DOTALL)
DEFINE = re.compile(r"^#define (\w+) (\d+)$", re.MULTILINE)
MAP = re.compile(r"^BPF_(\w+)\((\w+), ([^;]*)\);", re.MULTILINE)
STATE = ("joins_state.h", "tls_state.h", "state.h")
ONLY_WITH = r"^#ifdef {}$.*?^#endif$"
ELEMENT, BUCKET, HEAD = 48, 16, 320  # struct htab_elem, struct bucket, and about what a map takes without its elements


class Size(NamedTuple):
    """Of a C type: bytes, and what its address is a multiple of."""

    size: int
    align: int


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def _text(name: str) -> str:
    return contract.COMMENT.sub("", (bpf_folder() / name).read_text())


@cache
def _numbers() -> dict[str, int]:
    found = {name: int(value) for one in STATE for name, value in DEFINE.findall(_text(one))}
    return contract.header().numbers | found


def _evaluate(text: str, numbers: dict[str, int]) -> int:
    """Evaluate a sum of products of numbers and names."""
    value = 0
    for term in text.split("+"):
        product = 1
        for factor in term.split("*"):
            product *= numbers[factor.strip()] if factor.strip() in numbers else int(factor)
        value += product
    return value


@cache
def sizes() -> dict[str, Size]:
    """Return the sizes of the structs that maps hold, laid out as C does."""
    out = {name: Size(size, size) for name, size in SCALARS.items()}
    for text in map(_text, ("contract.h", *STATE)):
        for name, body in STRUCT.findall(text):
            at, align = 0, 1
            for kind, _, count in MEMBER.findall(body):
                one = out[kind]
                at = _up(at, one.align) + one.size * (_evaluate(count, _numbers()) if count else 1)
                align = max(align, one.align)
            out[name] = Size(_up(at, align), align)
    return out


def _size_of(kind: str) -> int:
    return sizes()[kind.strip().removeprefix("struct ")].size


def _hash(key: int, value: int, entries: int, cpus: int) -> int:
    """A hash whose elements are made in advance, and one more for each CPU (kernel/bpf/hashtab.c)."""
    buckets = 1 << (entries - 1).bit_length()
    return HEAD + buckets * BUCKET + (ELEMENT + _up(key, 8) + _up(value, 8)) * (entries + cpus)


def locked(settings: ProbeSettings) -> dict[str, int]:
    """Return the bytes that each map will lock."""
    page, cpus = os.sysconf("SC_PAGESIZE"), maps.possible_cpus()
    numbers = (
        _numbers()
        | {"WORKS": 3}
        | {
            name: int(value)
            for name, _, value in (flag.removeprefix("-D").partition("=") for flag in settings.flags(page))
            if value.isdigit()
        }
    )
    out = {}
    text = _text("maps.h")
    for flag, given in (("FOLLOW_TLS", settings.follow_tls), ("JOINS", settings.joins)):
        text = text if given else re.sub(ONLY_WITH.format(flag), "", text, flags=re.DOTALL | re.MULTILINE)
    for kind, name, rest in MAP.findall(text):
        *types, count = rest.split(",")
        entries = _evaluate(count, numbers)
        if kind == "RINGBUF_OUTPUT":
            out[name] = HEAD + (entries + 3) * page
        elif kind == "HASH":
            out[name] = _hash(_size_of(types[0]), _size_of(types[1]), entries, cpus)
        else:
            value = 8 if kind == "PROG_ARRAY" else _up(_size_of(types[0]), 8)
            out[name] = HEAD + value * entries * (cpus if kind == "PERCPU_ARRAY" else 1)
    return out
