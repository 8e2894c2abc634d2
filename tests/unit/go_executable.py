"""A small executable as Go's linker lays one out: no section names, a table of functions, and their code."""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass, field

from ringspan.probe import tls_functions
from ringspan.tls import elf, pclntab

BASE, TABLE_AT, CODE_AT, TEXT = 0x400000, 0x1000, 0x8000, 0x408000
FUNCTION_BYTES = 64
RET = b"\xc3" if platform.machine() == "x86_64" else struct.pack("<I", 0xD65F03C0)
NOP = b"\x90" if platform.machine() == "x86_64" else struct.pack("<I", 0xD503201F)
CODE = (NOP * 64)[: FUNCTION_BYTES // 2] + (RET * 64)[: FUNCTION_BYTES // 2]


@dataclass
class Executable:
    """What is to be in it; `values` stand in for what the header of the table says."""

    magic: int = 0xFFFFFFF1
    names: list[str] = field(default_factory=lambda: list(tls_functions.GO))
    values: dict[str, int] = field(default_factory=dict)
    code: bytes = CODE

    def table(self) -> bytes:
        texts = b"\0" + b"".join(name.encode() + b"\0" for name in self.names)
        texts += bytes(-len(texts) % 8)
        header = {"count": len(self.names), "files": 0, "text": TEXT, "names": 72}
        header |= {
            "cu": 72 + len(texts),
            "file": 72 + len(texts),
            "pc": 72 + len(texts),
            "functions": 72 + len(texts) + 8,
        }
        header |= self.values
        first = 8 * len(self.names) + 4
        places = [first + 44 * index for index in range(len(self.names))]
        entries = b"".join(struct.pack("<II", FUNCTION_BYTES * i, place) for i, place in enumerate(places))
        infos = b"".join(struct.pack("<Ii36x", FUNCTION_BYTES * i, texts.index(f"\0{name}\0".encode()) + 1)
                         for i, name in enumerate(self.names))  # fmt: skip
        quantum = pclntab.QUANTUM[platform.machine()]
        head = struct.pack("<IHBB8Q", self.magic, 0, quantum, 8, *header.values())
        return (
            head + texts + bytes(8) + entries + struct.pack("<I", FUNCTION_BYTES * len(self.names)) + infos + bytes(64)
        )

    def raw(self) -> bytes:
        code = self.code * len(self.names)
        body = bytes(TABLE_AT - 120) + self.table()
        body = body.ljust(CODE_AT - 120, b"\0") + code
        size = 120 + len(body)
        machine = elf.MACHINES[platform.machine()]
        head = elf.MAGIC.ljust(16, b"\0") + struct.pack(
            "<HHIQQQIHHHHHH", 2, machine, 1, TEXT, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )
        return head + struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000) + body
