"""The record layout and the enums, read from bpf/contract.h: the C header is the only definition."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ringspan.files import bpf_folder

SCALARS = {f"{sign}{bits}": f"{kind}{bits // 8}" for sign, kind in (("u", "u"), ("s", "i")) for bits in (8, 16, 32, 64)}
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
MEMBER = re.compile(r"\s*(\w+)\s+(\w+)\s*(?:\[(\w+)\])?\s*;")


class Header(NamedTuple):
    """What a contract header defines."""

    numbers: dict[str, int]  # every #define and enumerator
    structs: dict[str, np.dtype[Any]]


def parse(text: str) -> Header:
    """Parse `#define NAME number`, enums and structs; raises ValueError on anything else."""
    text = COMMENT.sub("", text)
    numbers = {name: int(value, 0) for name, value in re.findall(r"#define\s+(\w+)\s+(\w+)\s*$", text, re.MULTILINE)}
    for body in re.findall(r"enum\s+\w+\s*\{(.*?)\}", text, re.DOTALL):
        for name, value in re.findall(r"(\w+)\s*=\s*(\w+)", body):
            numbers[name] = int(value, 0)
    structs = {name: _dtype(body, numbers) for name, body in re.findall(r"struct\s+(\w+)\s*\{(.*?)\}", text, re.DOTALL)}
    return Header(numbers, structs)


def _dtype(body: str, numbers: dict[str, int]) -> np.dtype[Any]:
    fields: list[tuple[Any, ...]] = []
    for line in filter(None, (line.strip() for line in body.splitlines())):
        member = MEMBER.fullmatch(line)
        if not member or member[1] not in ("char", *SCALARS):
            raise ValueError(f"contract.h: not a member: {line!r}")
        kind, name, length = member.groups()
        count = numbers[length] if length in numbers else int(length or 1)
        if kind == "char":
            fields.append((name, f"S{count}"))
        elif length:
            fields.append((name, SCALARS[kind], count))
        else:
            fields.append((name, SCALARS[kind]))
    packed = np.dtype(fields)
    aligned = np.dtype(fields, align=True)
    if packed.itemsize != aligned.itemsize:
        raise ValueError(
            f"contract.h: hidden padding: {packed.itemsize} bytes of members, {aligned.itemsize} as C lays them out"
        )
    return packed


@cache
def header() -> Header:
    """Parse bpf/contract.h once."""
    return parse((bpf_folder() / "contract.h").read_text())


def number(name: str) -> int:
    """Return a #define or an enumerator by its C name; raises KeyError if there is none."""
    return header().numbers[name]


def names(prefix: str) -> dict[int, str]:
    """Return the enumerators that begin with a prefix, by value, without it and in lower case."""
    return {
        value: name.removeprefix(prefix).lower() for name, value in header().numbers.items() if name.startswith(prefix)
    }


RECORD = header().structs["record"]
BIRTH = header().structs["birth"]
