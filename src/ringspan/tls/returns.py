"""Where a function returns: the places of its return instructions, by disassembly.

A breakpoint there sees what a function returns and changes nothing of its stack. (A uretprobe puts another return
address in the place of the caller's: a program that moves stacks, as Go does and coroutines do, cannot live with that.)
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterator

import capstone
from capstone import x86_const

from ringspan.tls.bounded import Refused

ARM_RETURNS = (0xD65F03C0, 0xD65F0BFF, 0xD65F0FFF)  # RET, RETAA, RETAB
ARM_BRANCH, ARM_BRANCH_MASK = 0x14000000, 0xFC000000
RETURNS_MAX = 512


def places(code: bytes) -> list[int]:
    """Return where in a function's code it returns; raises Refused where it may leave in another way."""
    found = list(_x86(code) if platform.machine() == "x86_64" else _arm(code))
    if not 0 < len(found) <= RETURNS_MAX:
        raise Refused("where its functions return cannot be told")
    return found


def _x86(code: bytes) -> Iterator[int]:
    end = 0
    for one in capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm(code, 0):
        end = one.address + one.size
        if one.id == x86_const.X86_INS_RET:
            yield one.address
        elif one.id == x86_const.X86_INS_JMP and one.op_str[:2] == "0x" and int(one.op_str, 16) >= len(code):
            raise Refused("a function of it goes on in another")
    if end < len(code):
        raise Refused("instructions of it are not known")


def _arm(code: bytes) -> Iterator[int]:
    for index, (word,) in enumerate(struct.iter_unpack("<I", code)):
        if word in ARM_RETURNS:
            yield 4 * index
        elif word & ARM_BRANCH_MASK == ARM_BRANCH:
            distance = (word & ~ARM_BRANCH_MASK) - (1 << 26 if word & 1 << 25 else 0)
            if not 0 <= index + distance < len(code) // 4:
                raise Refused("a function of it goes on in another")
