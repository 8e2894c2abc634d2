"""The code of arm64, read on whatever machine: stubs of the linker's, what it puts out of the way, ways out of functions."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from ringspan.tls import arm
from ringspan.tls.code import Code

RET, NOP, LOAD = 0xD65F03C0, 0xD503201F, 0xB9400000  # LDR W0, [X0]
ADDRESS = 0x25DA0


def elf(*words: int, address: int = ADDRESS) -> Any:
    """A file of these words, mapped at an address from its beginning on."""
    raw = struct.pack(f"<{len(words)}I", *words).ljust(64, b"\0")
    return SimpleNamespace(
        address=lambda offset: address + offset, file=SimpleNamespace(read=lambda at, n: raw[at : at + n])
    )


# As in Debian's libssl.so.3 for arm64: ADRP X16, 0x11f000; LDR X17, [X16, #0xd08]; ADD X16, X16, #0xd08; BR X17.
STUB = (0xD00007D0, 0xF9468611, 0x91342210, 0xD61F0220)


@pytest.mark.parametrize("before", [(), (arm.BTI,)])
def test_a_stub_says_where_its_address_is(before: tuple[int, ...]) -> None:
    assert arm.slot(elf(*before, *STUB), 0) == 0x11FD08


def test_a_stub_may_read_from_below() -> None:
    backwards = 0x90000010 | (0x7FFFF << 5)  # four pages down
    assert arm.slot(elf(backwards, *STUB[1:]), 0) == 0x25000 - 0x4000 + 0xD08


@pytest.mark.parametrize("at", range(4))
def test_what_differs_from_a_stub_is_none(at: int) -> None:
    words = list(STUB)
    words[at] = NOP
    assert arm.slot(elf(*words), 0) is None


def test_what_is_put_out_of_the_way_goes_back() -> None:
    assert arm.landing(elf(NOP, LOAD, 0x17FFFFF0), 4) == 8 - 64
    assert arm.landing(elf(NOP, LOAD, RET), 4) == 4
    assert arm.landing(elf(NOP, NOP, 0x17FFFFF0), 4) == 4


def test_ways_out() -> None:
    words = (NOP, 0x14000003, RET, 0x17FFFFF0, 0xD65F0BFF)  # B to the fourth after; B back, out of it; RETAA
    assert arm.look_into(struct.pack("<5I", *words)) == Code(returns=[8, 16], jumps=[4 * (3 - 16)], leaps=False)
    assert arm.look_into(struct.pack("<2I", NOP, 0xD61F0220)).leaps
    assert not arm.look_into(struct.pack("<2I", 0x8B010000, 0xD61F0220)).leaps  # by a table: ADD before it
