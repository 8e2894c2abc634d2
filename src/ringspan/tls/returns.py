"""Where a function returns: the places of its return instructions, by disassembly.

A breakpoint there sees what a function returns and changes nothing of its stack. (A uretprobe puts another return
address in the place of the caller's: a program that moves stacks, as Go does and coroutines do, cannot live with that.)
"""

from __future__ import annotations

import platform
from collections import deque

from ringspan.tls import arm, x86
from ringspan.tls.bounded import Refused, Span
from ringspan.tls.elf import Elf
from ringspan.tls.unwinding import Unwinding

RETURNS_MAX, FUNCTIONS_MAX, CODE_MAX = 512, 16, 1 << 16
MACHINE = x86 if platform.machine() == "x86_64" else arm


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
        code = MACHINE.look_into(elf.file.read(*one))
        if code.leaps and not may_leap:
            raise Refused("a function of it goes on where only a register tells")
        found |= {one.offset + place for place in code.returns}
        ahead.extend(_target(elf, one.offset + place) for place in code.jumps)
    if len(found) > RETURNS_MAX or not (found or may_leap):
        raise Refused("where its functions return cannot be told")
    return sorted(found)


def _target(elf: Elf, offset: int) -> Span:
    """Return the code of the function that a jump leads into, if need be by the linker's stub."""
    slot = MACHINE.slot(elf, offset)
    if slot is None:
        return _function_at(elf, MACHINE.landing(elf, offset))
    function = elf.linked(slot)
    if not function:
        raise Refused("a function of it goes on in another file")
    return function


def _function_at(elf: Elf, offset: int) -> Span:
    """Return the function that a place is in; executables that are linked statically may have its name alone."""
    named = None if elf.unwinding else elf.function_at(offset)
    return named or Unwinding(elf).function_at(offset)
