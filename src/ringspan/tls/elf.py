"""Where the functions of TLS libraries lie in a file: its dynamic symbols, else those of a static executable."""

from __future__ import annotations

import mmap
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
FUNCTION = 2  # STT_FUNC


def offsets(file: IO[bytes], names: Iterable[str]) -> dict[str, int]:
    """Return the offsets of those of these functions that a file has, for the machine that runs; {} of other files."""
    try:
        elf = ELFFile(file)
        if elf.elfclass != 64 or elf["e_machine"] != MACHINES.get(platform.machine()):
            return {}
        found = _dynamic(elf, names) or _static(elf, file, names)
        return {name: offset for name, value in found.items() if (offset := _offset(elf, value)) is not None}
    except (ELFError, ValueError, OSError, KeyError, AttributeError, struct.error, UnicodeError):
        return {}  # whatever a stranger has written there


def _dynamic(elf: Any, names: Iterable[str]) -> dict[str, int]:
    found = {}
    table = elf.get_section_by_name(".gnu.hash") or elf.get_section_by_name(".hash")
    for name in names if table else ():
        symbol = table.get_symbol(name)
        if symbol and symbol["st_shndx"] != "SHN_UNDEF":
            found[name] = int(symbol["st_value"])
    return found


def _static(elf: Any, file: IO[bytes], names: Iterable[str]) -> dict[str, int]:
    """Look for the names' places among the strings first: a large executable has 100,000 symbols."""
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return {}
    strings = elf.get_section(table["sh_link"])
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        begin, end = strings["sh_offset"], strings["sh_offset"] + strings["sh_size"]
        places = {memory.find(f"\0{name}\0".encode(), begin, end) + 1 - begin: name for name in names}
        places = {place: name for place, name in places.items() if place > 0}
        if not places:
            return {}
        text = memory[table["sh_offset"] : table["sh_offset"] + table["sh_size"] // SYMBOL.size * SYMBOL.size]
    symbols = SYMBOL.iter_unpack(text)
    return {places[at]: value for at, info, _, section, value, _ in symbols
            if at in places and info & 15 == FUNCTION and section}  # fmt: skip


def _offset(elf: Any, address: int) -> int | None:
    """Return where in the file an address lies."""
    for segment in elf.iter_segments("PT_LOAD"):
        start = segment["p_vaddr"]
        if start <= address < start + segment["p_filesz"]:
            return int(address - start + segment["p_offset"])
    return None


def functions(path: str, names: Iterable[str]) -> dict[str, int]:
    """Return the offsets of functions of a file by its path; {} if it cannot be read."""
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123
        return offsets(file, names)
    return {}
