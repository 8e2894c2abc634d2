"""An ELF file: where its segments, sections and named functions lie.

The libraries for this make objects of all that a file says it has; here few kinds of table are read,
each of bounded size.
"""

from __future__ import annotations

import bisect
import platform
import struct
from collections.abc import Collection
from functools import cached_property
from typing import NamedTuple

from ringspan.tls.bounded import Bounded, Refused, Span

MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
MACHINES = {"x86_64": 62, "aarch64": 183}
# Elf64_Ehdr from e_machine on, Elf64_Shdr, Elf64_Phdr, Elf64_Sym, Elf64_Dyn
HEADER, SECTION = struct.Struct("<HIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
SEGMENT, SYMBOL, DYNAMIC_ENTRY = struct.Struct("<IIQQQQQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQ")
HEADER_AT, HEADER_BYTES = 18, 64
DYNAMIC_SYMBOLS, SYMBOLS = 11, 2  # SHT_DYNSYM, SHT_SYMTAB
LOADED, DYNAMIC, UNWINDING = 1, 2, 0x6474E550  # PT_LOAD, PT_DYNAMIC, PT_GNU_EH_FRAME
RELOCATIONS, STUBS = (7, 8), (23, 2)  # DT_RELA and DT_RELASZ; DT_JMPREL and DT_PLTRELSZ
SYMBOL_TABLE = 6  # DT_SYMTAB
RELATIVE = {"x86_64": 8, "aarch64": 1027}  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
POINTER = struct.Struct("<Q")
RELOCATION_BYTES, RELOCATION = 24, struct.Struct("<QQ")  # Elf64_Rela: r_offset, then these two
FUNCTION, EXECUTED = 2, 1  # STT_FUNC; PF_X
SECTIONS_MAX, SEGMENTS_MAX, NAMES_MAX, DYNAMIC_MAX = 1024, 128, 1 << 16, 1 << 14
NO_ELF, OTHER_MACHINE = "it is no ELF file", "it is for another machine"
SYMBOLS_MAX, STRINGS_MAX = 1 << 20, 1 << 26


class Section(NamedTuple):
    """What is of interest of a section's header."""

    name: int
    kind: int
    address: int
    offset: int
    size: int
    link: int


class Segment(NamedTuple):
    """A part of the file that is mapped."""

    flags: int
    offset: int
    address: int
    size: int


class Elf:
    """A file of this kind, for the machine that runs; raises Refused of others."""

    def __init__(self, file: Bounded) -> None:
        self.file = file
        head = file.read(0, HEADER_BYTES) if file.size >= HEADER_BYTES else b""
        if head[: len(MAGIC)] != MAGIC:
            raise Refused(NO_ELF)
        machine, _, _, segments_at, sections_at, _, _, _, segments, _, count, names = HEADER.unpack_from(
            head, HEADER_AT
        )
        if machine != MACHINES.get(platform.machine()):
            raise Refused(OTHER_MACHINE)
        if segments > SEGMENTS_MAX or count > SECTIONS_MAX:
            raise Refused("it has more parts than are looked at")
        parts = [SEGMENT.unpack(raw) for raw in self._table(segments_at, segments, SEGMENT.size)]
        self.segments = [
            Segment(flags, offset, address, size)
            for kind, flags, offset, address, _, size, *_ in parts
            if kind == LOADED
        ]
        self._dynamic = [Span(one[2], one[5]) for one in parts if one[0] == DYNAMIC]
        self.unwinding = next((Span(one[2], one[5]) for one in parts if one[0] == UNWINDING), None)
        self.sections = [
            Section(name, kind, address, offset, size, link)
            for name, kind, _, address, offset, size, link, *_ in (
                SECTION.unpack(raw) for raw in self._table(sections_at, count, SECTION.size)
            )
        ]
        self._names = self.sections[names] if names < len(self.sections) else None

    def _table(self, at: int, count: int, size: int) -> list[bytes]:
        raw = self.file.read(at, count * size)
        return [raw[i : i + size] for i in range(0, len(raw), size)]

    def named(self, *endings: str) -> Section | None:
        """Find the first section whose name ends like this."""
        if not self._names:
            return None
        texts = self.file.read(self._names.offset, min(self._names.size, NAMES_MAX))
        wanted = tuple(ending.encode() for ending in endings)
        for one in self.sections:
            if one.name < len(texts) and texts[one.name : texts.find(b"\0", one.name)].endswith(wanted):
                return one
        return None

    def offset(self, address: int) -> int:
        """Return where in the file an address lies."""
        for one in self.segments:
            if one.address <= address < one.address + one.size:
                return address - one.address + one.offset
        raise Refused("its tables name places that it has not")

    def is_code(self, offset: int, size: int) -> bool:
        """Whether a part of the file is mapped to run."""
        return any(
            one.flags & EXECUTED and one.offset <= offset and offset + size <= one.offset + one.size
            for one in self.segments
        )

    def address(self, offset: int) -> int:
        """Return at which address a place in the file is mapped."""
        for one in self.segments:
            if one.offset <= offset < one.offset + one.size:
                return offset - one.offset + one.address
        raise Refused("its tables name places that it has not")

    @cached_property
    def _linking(self) -> dict[int, int]:
        """What the dynamic linker is told (Elf64_Dyn)."""
        told: dict[int, int] = {}
        for place in self._dynamic[:1]:
            raw = self.file.read(place.offset, min(place.size, DYNAMIC_MAX) // DYNAMIC_ENTRY.size * DYNAMIC_ENTRY.size)
            told = dict(DYNAMIC_ENTRY.iter_unpack(raw))
        return told

    def _relocations(self, place: int, size: int) -> Span:
        if not {place, size} <= self._linking.keys():
            return Span(0, 0)
        return Span(self.offset(self._linking[place]), self._linking[size])

    @cached_property
    def relocations(self) -> Span:
        """Return what a position-independent file is changed by as it is loaded (Elf64_Rela); empty if nothing."""
        return self._relocations(*RELOCATIONS)

    def linked(self, address: int) -> Span | None:
        """Return the code of the function, if it is this file's own, whose address the linker will put at this one."""
        for part in (self._relocations(*STUBS), self.relocations):
            for found in self.file.find(POINTER.pack(address), part, RELOCATION_BYTES):
                kind, _ = RELOCATION.unpack(self.file.read(found.place + POINTER.size, RELOCATION.size))
                at = self.offset(self._linking.get(SYMBOL_TABLE, 0)) + (kind >> 32) * SYMBOL.size
                _, info, _, section, value, size = SYMBOL.unpack(self.file.read(at, SYMBOL.size))
                return self._span(value, size) if section and info & 15 == FUNCTION else None
        return None

    def pointer(self, address: int) -> int:
        """Return what will stand at an address once the file is loaded."""
        for found in self.file.find(POINTER.pack(address), self.relocations, RELOCATION_BYTES):
            kind, value = RELOCATION.unpack(self.file.read(found.place + POINTER.size, RELOCATION.size))
            if kind == RELATIVE[platform.machine()]:
                return int(value)
        return int(POINTER.unpack(self.file.read(self.offset(address), POINTER.size))[0])

    def functions(self, names: Collection[str]) -> dict[str, Span]:
        """Return the code of those of these functions that are named among the dynamic symbols, else among all."""
        for kind in (DYNAMIC_SYMBOLS, SYMBOLS):
            table = next((one for one in self.sections if one.kind == kind), None)
            if table and table.link < len(self.sections):
                found = self._symbols(table, self.sections[table.link], names)
                if found:
                    return found
        return {}

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        """Address and size of each function that has a name, in order."""
        tables = [one for one in self.sections if one.kind in (DYNAMIC_SYMBOLS, SYMBOLS)]
        if sum(one.size for one in tables) > SYMBOLS_MAX * SYMBOL.size:
            raise Refused("it has more symbols than are looked at")
        return sorted(
            (value, size)
            for table in tables
            for _, raw in self.file.chunks(table.offset, table.size // SYMBOL.size * SYMBOL.size)
            for _, info, _, section, value, size in SYMBOL.iter_unpack(raw)
            if section and size and info & 15 == FUNCTION
        )

    def function_at(self, offset: int) -> Span | None:
        """Return the code of the function, if it has a name, that a place in the file is in."""
        address = self.address(offset)
        index = bisect.bisect_right(self._spans, (address, 1 << 64)) - 1
        value, size = self._spans[index] if index >= 0 else (0, 0)
        return self._span(value, size) if address < value + size else None

    def _symbols(self, table: Section, strings: Section, names: Collection[str]) -> dict[str, Span]:
        """Seek the places of the names first: a large file has 100,000 symbols."""
        if table.size > SYMBOLS_MAX * SYMBOL.size or strings.size > STRINGS_MAX:
            raise Refused("it has more symbols than are looked at")
        places = self._places(strings, {name.encode() for name in names})
        count = table.size // SYMBOL.size * SYMBOL.size
        return {
            places[at]: self._span(value, size)
            for _, raw in (self.file.chunks(table.offset, count) if places else ())
            for at, info, _, section, value, size in SYMBOL.iter_unpack(raw)
            if at in places and section and info & 15 == FUNCTION
        }

    def _places(self, strings: Section, names: Collection[bytes]) -> dict[int, str]:
        """Return where names begin among the strings: many are stored as the ends of longer ones."""
        longest = max(map(len, names)) + 1
        return {
            place - strings.offset: text.decode()
            for stem in {name[: name.index(b"_") + 1] for name in names}
            for place, text in self.file.words(stem, Span(strings.offset, strings.size), longest)
            if text in names
        }

    def _span(self, address: int, size: int) -> Span:
        offset = self.offset(address)
        if not self.is_code(offset, size):
            raise Refused("its tables name places that it has not")
        return Span(offset, size)
