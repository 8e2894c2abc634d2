"""The code of x86-64: a function's ways out of it, by disassembly, and the linker's stubs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import capstone

from ringspan.tls.bounded import Refused
from ringspan.tls.code import Code
from ringspan.tls.elf import Elf

ENDS = ("ret", "jmp", "ud2", "hlt")  # after which no other instruction follows
MISSIZED = ("ud0", "ud1")  # Capstone takes them without what follows: sanitizers' traps are some
LOOK_BACK = 4
STUB, STUB_BYTES = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\xf2?\xff\x25(.{4})", re.DOTALL), 16  # ENDBR64, JMP by a slot
BASE = 1 << 40  # taken for its address: so that all that it names have one form


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


def look_into(code: bytes) -> Code:
    """Disassemble a function; raises Refused where that fails.

    Take its instructions one after another, then see which can be come to: what was read amiss is not.

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


def slot(elf: Elf, offset: int) -> int | None:
    """Return where a stub of the linker's has the address from that it goes on at; None if this is none."""
    stub = STUB.match(elf.file.read(offset, STUB_BYTES))
    if not stub:
        return None
    distance = int.from_bytes(stub[1], "little", signed=True)
    return elf.address(offset) + stub.end() + distance


def landing(_elf: Elf, offset: int) -> int:
    """Return where a jump to a place of this file leads."""
    return offset
