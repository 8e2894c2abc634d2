"""Where functions without a name begin and end: by the table that exceptions are unwound by (.eh_frame_hdr).

The Linux Standard Base's description: Core, Exception Frames. Only the encoding that linkers write is read.
"""

from __future__ import annotations

import bisect
import struct

from ringspan.tls.bounded import Refused, Span
from ringspan.tls.elf import Elf

HEADER, ENTRY, DESCRIPTION = struct.Struct("<BBBBiI"), struct.Struct("<ii"), struct.Struct("<IIiI")
ENCODINGS = (1, 0x1B, 0x03, 0x3B)  # version; pointers of 4 bytes, relative to where they stand, plain, to the table
FUNCTIONS_MAX = 1 << 22


class Unwinding:
    """The table of a file; raises Refused where there is none that can be read."""

    def __init__(self, elf: Elf) -> None:
        part = elf.unwinding
        if not part:
            raise Refused("where a function of it ends is not told")
        self._elf, self._base, self._at = elf, elf.address(part.offset), part.offset + HEADER.size
        *encodings, _, self._count = HEADER.unpack(elf.file.read(part.offset, HEADER.size))
        if tuple(encodings) != ENCODINGS or self._count > FUNCTIONS_MAX:
            raise Refused("where a function of it ends is told in a way that is not known")

    def _entry(self, index: int) -> tuple[int, int]:
        begin, place = ENTRY.unpack(self._elf.file.read(self._at + index * ENTRY.size, ENTRY.size))
        return self._base + begin, self._base + place

    def function_at(self, offset: int) -> Span:
        """Return the code of the function that a place in the file is in; raises Refused."""
        address = self._elf.address(offset)
        index = bisect.bisect_right(range(self._count), address, key=lambda index: self._entry(index)[0]) - 1
        if index < 0:
            raise Refused("where a function of it ends is not told")
        begin, place = self._entry(index)
        at = self._elf.offset(place)
        _, _, relative, size = DESCRIPTION.unpack(self._elf.file.read(at, DESCRIPTION.size))
        if place + 8 + relative != begin or not begin <= address < begin + size:
            raise Refused("where a function of it ends is not told")
        return Span(self._elf.offset(begin), size)
