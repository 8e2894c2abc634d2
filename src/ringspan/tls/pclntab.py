"""Where the functions of a Go executable lie: by the table of its runtime, which no stripping takes away.

The runtime's own description: src/runtime/symtab.go (pcHeader, moduledata) and src/runtime/runtime2.go (_func). A
function is sought by its name's place, so that a table of any size takes no more than a look at its bytes.
"""

from __future__ import annotations

import bisect
import platform
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress

from ringspan.tls.bounded import Refused, Span
from ringspan.tls.elf import POINTER, RELATIVE, RELOCATION_BYTES, Elf

MAGICS = {0xFFFFFFFA: (16, 8), 0xFFFFFFF0: (18, 4), 0xFFFFFFF1: (20, 4)}  # since Go 1.x; how wide a function's place is
QUANTUM = {"x86_64": 1, "aarch64": 4}  # minLC: of what instructions' lengths are multiples
# pcHeader: magic, padding, minLC, ptrSize, nfunc, nfiles, (since 1.18) text, and the places of five tables
HEADERS = {4: struct.Struct("<IHBBQQQQQQQQ"), 8: struct.Struct("<IHBBQQQQQQQ")}
WORD = struct.Struct("<I")
OTHER_SECTIONS = (".go.buildinfo", ".note.go.buildid")
MODULE_FIRST, MODULE_TEXT = 160, 176  # moduledata.minpc and .text, since Go 1.16
FUNCTIONS_MAX, CODE_MAX = 1 << 22, 1 << 16
SCANNED_MAX = 1 << 26  # where no section's name tells


class Pclntab:
    """The table of functions of an executable; raises Refused where it is none, or not what it says."""

    def __init__(self, elf: Elf, part: Span) -> None:
        self._elf, self._file = elf, elf.file
        magic = WORD.unpack(self._file.read(part.offset, WORD.size))[0]
        if magic not in MAGICS:
            raise Refused(f"its table of functions is of a kind that is not known ({magic:#x})")
        self.since, self._width = MAGICS[magic]
        header = HEADERS[self._width]
        _, _, _, width, self._count, _, *places = header.unpack(self._file.read(part.offset, header.size))
        text, names, after, _, _, functions = places if self._width == WORD.size else (0, *places)
        table = 2 * self._width * self._count + self._width
        if width != POINTER.size or self._count > FUNCTIONS_MAX or not names < after < functions < part.size - table:
            raise Refused("its table of functions is not what it says")
        self._names = Span(part.offset + names, after - names)
        self._functions = Span(part.offset + functions, part.size - functions)
        self._infos = Span(part.offset + functions + table, part.size - functions - table)
        self._text = text or (self._find_text(part, names) if self._width == WORD.size else 0)

    def functions(self, names: Collection[str]) -> dict[str, Span]:
        """Return the code of those of these functions that it has; raises Refused if two have one name."""
        found = {name: list(self._named(name)) for name in names}
        if any(len(places) > 1 for places in found.values()):
            raise Refused("functions of one name are in it twice")
        return {name: places[0] for name, places in found.items() if places}

    def _named(self, name: str) -> Iterator[Span]:
        for found in self._file.find(f"\0{name}\0".encode(), self._names):
            number = WORD.pack(found.place + 1 - self._names.offset)
            for one in self._file.find(number, self._infos):
                index = self._index(one.place - self._width - self._functions.offset)
                if index is not None:
                    begin, end = self._address(index), self._address(index + 1)
                    yield self._code(begin, end - begin)

    def _entry(self, index: int, half: int) -> int:
        raw = self._file.read(self._functions.offset + (2 * index + half) * self._width, self._width)
        return int.from_bytes(raw, "little")

    def _index(self, place: int) -> int | None:
        """Find the function whose description stands at a place: they have one order."""
        index = bisect.bisect_left(range(self._count), place, key=lambda index: self._entry(index, 1))
        return index if index < self._count and self._entry(index, 1) == place else None

    def _address(self, index: int) -> int:
        if self._width == WORD.size:
            return self._text + self._entry(index, 0)
        return self._elf.pointer(self._elf.address(self._functions.offset) + 2 * index * self._width)

    def _code(self, address: int, size: int) -> Span:
        offset = self._elf.offset(address)
        if not 0 < size <= CODE_MAX or not self._elf.is_code(offset, size):
            raise Refused("its table of functions is not what it says")
        return Span(offset, size)

    def _find_text(self, part: Span, names: int) -> int:
        """Return where code begins, which the table itself does not tell (of some files; since Go 1.26 of all)."""
        table = self._elf.address(part.offset)
        for module in self._pointing_to(table):
            with suppress(Refused):
                text = self._elf.pointer(module + MODULE_TEXT)
                first = self._elf.pointer(module + MODULE_FIRST)
                if self._elf.pointer(module + POINTER.size) == table + names and first == text + self._entry(0, 0):
                    return text
        raise Refused("where its code begins is not told")

    def _pointing_to(self, address: int) -> Iterator[int]:
        """List the addresses at which a pointer to this one stands."""
        relocations = self._elf.relocations
        if relocations.size:
            part = Span(relocations.offset + POINTER.size, relocations.size - POINTER.size)
            kind = POINTER.pack(RELATIVE[platform.machine()])
            for found in self._file.find(kind + POINTER.pack(address), part, RELOCATION_BYTES):
                yield POINTER.unpack(self._file.read(found.place - POINTER.size, POINTER.size))[0]
        for one in self._elf.segments:
            for found in self._file.find(POINTER.pack(address), Span(one.offset, one.size), POINTER.size):
                yield self._elf.address(found.place)


def of(elf: Elf) -> Pclntab | None:
    """Find a file's table by its section's name, else by its magic number; raises Refused of one that is not sound."""
    section = elf.named(".gopclntab")
    if section:
        return Pclntab(elf, Span(section.offset, section.size))
    for place in _scanned(elf) if not elf.sections or elf.named(*OTHER_SECTIONS) else ():
        with suppress(Refused):
            return Pclntab(elf, place)
    return None


def _scanned(elf: Elf) -> Iterator[Span]:
    """List where a table may begin, and the rest of its segment; a linker may have made one section of many."""
    start = bytes((0, 0, QUANTUM[platform.machine()], POINTER.size))
    for one in elf.segments:
        part = Span(one.offset, min(one.size, SCANNED_MAX))
        for magic in MAGICS:
            for found in elf.file.find(WORD.pack(magic) + start, part, WORD.size):
                yield Span(found.place, one.offset + one.size - found.place)
