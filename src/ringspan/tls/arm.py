"""The code of arm64, whose instructions are all of four bytes: a function's ways out of it, and the linker's stubs.

Encodings as the Arm Architecture Reference Manual (DDI 0487) has them, chapter C4.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ringspan.tls.code import Code
from ringspan.tls.elf import Elf

RETURNS = (0xD65F03C0, 0xD65F0BFF, 0xD65F0FFF)  # RET, RETAA, RETAB
BRANCH, BRANCH_MASK = 0x14000000, 0xFC000000
TO_REGISTER, TO_REGISTER_MASK = 0xD61F0000, 0xFFFFFC1F  # BR
TABLE, TABLE_MASK = 0x0B000000, 0x7F200000  # ADD of registers: the last step to a place of a table
MEMORY, MEMORY_MASK = 0x08000000, 0x0A000000  # loads and stores
BTI = 0xD503245F
STUB = (0x90000010, 0xF9400211, 0x91000210, 0xD61F0220)  # ADRP X16; LDR X17, [X16]; ADD X16, X16; BR X17
STUB_MASKS = (0x9F00001F, 0xFFC003FF, 0xFF8003FF, 0xFFFFFFFF)
LOOK_BACK = 4


def look_into(code: bytes) -> Code:
    """Read a function."""
    out = Code()
    words = [word for (word,) in struct.iter_unpack("<I", code)]
    for index, word in enumerate(words):
        if word in RETURNS:
            out.returns.append(4 * index)
        elif word & BRANCH_MASK == BRANCH:
            distance = _distance(word)
            out.jumps += [] if 0 <= index + distance < len(words) else [4 * (index + distance)]
        elif word & TO_REGISTER_MASK == TO_REGISTER:
            out.leaps |= not any(_table(words[max(0, index - LOOK_BACK) : index]))
    return out


def _distance(branch: int) -> int:
    """Return how many instructions a B goes, from itself."""
    return (branch & ~BRANCH_MASK) - (1 << 26 if branch & 1 << 25 else 0)


def _table(words: list[int]) -> Iterator[bool]:
    return (word & TABLE_MASK == TABLE for word in words)


def slot(elf: Elf, offset: int) -> int | None:
    """Return where a stub of the linker's has the address from that it goes on at; None if this is none."""
    words = struct.unpack("<5I", elf.file.read(offset, 20))
    first = int(words[0] == BTI)
    stub = words[first : first + 4]
    if tuple(word & mask for word, mask in zip(stub, STUB_MASKS, strict=True)) != STUB:
        return None
    pages = (stub[0] >> 5 & 0x7FFFF) << 2 | stub[0] >> 29 & 3
    here = elf.address(offset + 4 * first) & ~0xFFF
    return int(here + ((pages ^ 1 << 20) - (1 << 20) << 12) + 8 * (stub[1] >> 10 & 0xFFF))


def landing(elf: Elf, offset: int) -> int:
    """Return where a jump to a place of this file leads.

    Linkers put a load or store out of its function's way (erratum 843419 of Cortex-A53): after it, it goes back.
    """
    moved, back = struct.unpack("<2I", elf.file.read(offset, 8))
    is_away = moved & MEMORY_MASK == MEMORY and back & BRANCH_MASK == BRANCH
    return offset + 4 * (1 + _distance(back)) if is_away else offset
