"""Where a function returns: the places of its return instructions, by disassembly.

A breakpoint there sees what a function returns and changes nothing of its stack. (A uretprobe puts another return
address in the place of the caller's: a program that moves stacks, as Go does and coroutines do, cannot live with that.)
"""

from __future__ import annotations

import platform
import re
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import capstone

from ringspan.tls.bounded import Refused, Span
from ringspan.tls.elf import Elf
from ringspan.tls.unwinding import Unwinding

ARM_RETURNS = (0xD65F03C0, 0xD65F0BFF, 0xD65F0FFF)  # RET, RETAA, RETAB
ARM_BRANCH, ARM_BRANCH_MASK = 0x14000000, 0xFC000000
ARM_TO_REGISTER, ARM_TO_REGISTER_MASK = 0xD61F0000, 0xFFFFFC1F  # BR
ARM_TABLE, ARM_TABLE_MASK = 0x0B000000, 0x7F200000  # ADD of registers: the last step to a place of a table
RETURNS_MAX, FUNCTIONS_MAX, CODE_MAX = 512, 16, 1 << 16
ENDS = ("ret", "jmp", "ud2", "hlt")  # after which no other instruction follows
MISSIZED = ("ud0", "ud1")  # Capstone takes them without what follows: sanitizers' traps are some
LOOK_BACK = 4
STUB, STUB_BYTES = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(.{4})", re.DOTALL), 16  # ENDBR64, JMP by a slot
BASE = 1 << 40  # taken for its address: so that all that it names have one form


@dataclass
class Code:
    """What a function's code holds of ways out of it, by their places in it.

    `jumps`: places elsewhere, relative to its beginning, at which it goes on; `leaps`: whether it may go on where only
    a register tells.
    """

    returns: list[int] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)
    leaps: bool = False


def look_into(code: bytes) -> Code:
    """Disassemble a function; raises Refused where that fails."""
    return _x86(code) if platform.machine() == "x86_64" else _arm(code)


def places(elf: Elf, span: Span, *, may_leap: bool = False) -> list[int]:
    """Return the offsets in the file at which a function returns, those of functions that it goes on in among them.

    `may_leap`: it may also go on where only a register tells, of which the return is then not seen. Raises Refused.
    """
    found: set[int] = set()
    known: set[int] = set()
    ahead = deque([span])
    while ahead:
        one = ahead.popleft()
        if one.offset in known:
            continue
        known.add(one.offset)
        if len(known) > FUNCTIONS_MAX or not elf.is_code(*one):
            raise Refused("a function of it goes on in too many others")
        if one.size > CODE_MAX:
            raise Refused("a function of it is too long")
        code = look_into(elf.file.read(*one))
        if code.leaps and not may_leap:
            raise Refused("a function of it goes on where only a register tells")
        found |= {one.offset + place for place in code.returns}
        ahead.extend(_target(elf, one.offset + place) for place in code.jumps)
    if len(found) > RETURNS_MAX or not (found or may_leap):
        raise Refused("where its functions return cannot be told")
    return sorted(found)


def _target(elf: Elf, offset: int) -> Span:
    """Return the code of the function that a jump leads into, if need be by the linker's stub."""
    stub = STUB.match(elf.file.read(offset, STUB_BYTES)) if platform.machine() == "x86_64" else None
    if not stub:
        return _function_at(elf, offset)
    slot = elf.address(offset) + stub.end() + int.from_bytes(stub[1], "little", signed=True)
    function = elf.linked(slot)
    if not function:
        raise Refused("a function of it goes on in another file")
    return function


def _function_at(elf: Elf, offset: int) -> Span:
    """Return the function that a place is in; executables that are linked statically may have its name alone."""
    named = None if elf.unwinding else elf.function_at(offset)
    return named or Unwinding(elf).function_at(offset)


class Step(NamedTuple):
    """An instruction: where it begins and ends in a function's code, what it is, and its operands."""

    begin: int
    end: int
    name: str
    operands: str

    @property
    def target(self) -> int | None:
        """Where it may go on instead, if it says so itself."""
        branches = self.name[0] == "j" or self.name.startswith(("loop", "xbegin"))
        return int(self.operands, 16) - BASE if branches and self.operands[:2] == "0x" else None


def _x86(code: bytes) -> Code:
    """Take its instructions one after another, then see which can be come to: what was read amiss is not.

    A breakpoint that is not at an instruction's beginning would change what the instruction does.
    """
    out = Code()
    steps = {one.begin: one for one in _steps(code)}
    before: deque[Step] = deque(maxlen=LOOK_BACK)
    tables = False
    for one in steps.values():
        if (target := one.target) is not None:
            inside = 0 <= target < len(code)
            if inside and target not in steps:
                raise Refused("instructions of it are not known")
            out.jumps += [] if inside else [target]
        elif one.name == "jmp" and _by_table(one, before):
            tables = True
        elif one.name == "jmp":
            out.leaps = True
        before.append(one)
    reached = steps.keys() if tables else _reached(steps)
    out.returns = [one.begin for one in steps.values() if one.name == "ret" and one.begin in reached]
    return out


def _steps(code: bytes) -> Iterator[Step]:
    """Disassemble; raises Refused unless all of it is known, and its sizes with it."""
    end = 0
    for address, size, words, operands in capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm_lite(
        code, BASE
    ):
        name = words.split()[-1]  # after its prefixes
        if name in MISSIZED:
            break
        begin, end = address - BASE, address - BASE + size
        yield Step(begin, end, name, operands)
    if end < len(code):
        raise Refused("instructions of it are not known")


def _reached(steps: dict[int, Step]) -> set[int]:
    """Return where instructions begin that can be come to from the first, by jumps that say where they lead."""
    known: set[int] = set()
    ahead = [0]
    while ahead:
        at = ahead.pop()
        while at in steps and at not in known:
            known.add(at)
            one = steps[at]
            if one.target is not None:
                ahead.append(one.target)
            if one.name in ENDS:
                break
            at = one.end
    return known


def _by_table(jump: Step, before: deque[Step]) -> bool:
    """Whether a jump's place is one of a table, as of a switch: such a place is in the function itself."""
    return "*" in jump.operands or any(one.name == "movsxd" for one in before)


def _arm(code: bytes) -> Code:
    out = Code()
    words = [word for (word,) in struct.iter_unpack("<I", code)]
    for index, word in enumerate(words):
        if word in ARM_RETURNS:
            out.returns.append(4 * index)
        elif word & ARM_BRANCH_MASK == ARM_BRANCH:
            distance = (word & ~ARM_BRANCH_MASK) - (1 << 26 if word & 1 << 25 else 0)
            out.jumps += [] if 0 <= index + distance < len(words) else [4 * (index + distance)]
        elif word & ARM_TO_REGISTER_MASK == ARM_TO_REGISTER:
            out.leaps |= not any(_arm_table(words[max(0, index - LOOK_BACK) : index]))
    return out


def _arm_table(words: list[int]) -> Iterator[bool]:
    return (word & ARM_TABLE_MASK == ARM_TABLE for word in words)
