"""Where the functions of TLS libraries lie in a file: its dynamic symbols, else those of a static executable.

Whoever may run a program chooses what is read here. The libraries for this make objects of all that a file says it has;
here nothing is read but four kinds of table, each of bounded size.
"""

from __future__ import annotations

import mmap
import platform
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, NamedTuple

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
MACHINES = {"x86_64": 62, "aarch64": 183}
# Elf64_Ehdr from e_machine on, Elf64_Shdr, Elf64_Phdr, Elf64_Sym
HEADER, SECTION = struct.Struct("<HIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
SEGMENT, SYMBOL = struct.Struct("<IIQQQQQQ"), struct.Struct("<IBBHQQ")
HEADER_AT = 18
DYNAMIC, STATIC = 11, 2  # SHT_DYNSYM, SHT_SYMTAB
LOADED, FUNCTIONS = 1, (2, 10)  # PT_LOAD; STT_FUNC, STT_GNU_IFUNC
SYMBOLS_MAX, STRINGS_MAX = 1 << 21, 1 << 27


class Section(NamedTuple):
    """What is of interest of a section's header."""

    kind: int
    offset: int
    size: int
    link: int


def offsets(file: IO[bytes], names: Iterable[str]) -> dict[str, int]:
    """Return the offsets of those of these functions that a file has, for the machine that runs; {} of other files."""
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            return _offsets(memory, list(names))
    except (OSError, ValueError, IndexError, OverflowError, struct.error):  # it is cut, or no file of this kind
        return {}


def _offsets(memory: mmap.mmap, names: list[str]) -> dict[str, int]:
    machine, _, _, segments_at, sections_at, _, _, _, segments, _, count, _ = HEADER.unpack_from(memory, HEADER_AT)
    if memory[: len(MAGIC)] != MAGIC or machine != MACHINES.get(platform.machine()):
        return {}
    sections = [_section(memory, sections_at + i * SECTION.size) for i in range(count)]
    loads = list(_loads(memory, segments_at, segments))
    for kind in (DYNAMIC, STATIC):
        for table in sections:
            found = _symbols(memory, table, sections[table.link], names) if table.kind == kind else {}
            if found:
                return {name: offset for name, at in found.items() if (offset := _offset(loads, at)) is not None}
    return {}


def _section(memory: mmap.mmap, at: int) -> Section:
    _, kind, _, _, offset, size, link, _, _, _ = SECTION.unpack_from(memory, at)
    return Section(kind, offset, size, link)


def _loads(memory: mmap.mmap, at: int, count: int) -> Iterator[tuple[int, int, int]]:
    """List the segments that are mapped: offset, address, size."""
    for i in range(count):
        kind, _, offset, address, _, size, _, _ = SEGMENT.unpack_from(memory, at + i * SEGMENT.size)
        if kind == LOADED:
            yield offset, address, size


def _symbols(memory: mmap.mmap, table: Section, strings: Section, names: list[str]) -> dict[str, int]:
    """Return the addresses of functions; their names' places are sought first: a large file has 100,000 symbols."""
    begin, end = strings.offset, strings.offset + min(strings.size, STRINGS_MAX)
    places = {memory.find(f"\0{name}\0".encode(), begin, end) + 1 - begin: name for name in names}
    places = {place: name for place, name in places.items() if place > 0}
    if not places:
        return {}
    count = min(table.size // SYMBOL.size, SYMBOLS_MAX)
    text = memory[table.offset : table.offset + count * SYMBOL.size]
    return {
        places[at]: value
        for at, info, _, section, value, _ in SYMBOL.iter_unpack(text)
        if section and at in places and info & 15 in FUNCTIONS
    }


def _offset(loads: list[tuple[int, int, int]], address: int) -> int | None:
    """Return where in the file an address lies."""
    return next((address - start + offset for offset, start, size in loads if start <= address < start + size), None)


def functions(path: str, names: Iterable[str]) -> dict[str, int]:
    """Return the offsets of functions of a file by its path; {} if it cannot be read."""
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
        return offsets(file, names)
    return {}
