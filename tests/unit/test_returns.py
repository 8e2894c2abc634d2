"""Where functions return: as the linker's own tools say, through jumps, and refused where that cannot be told."""

from __future__ import annotations

import os
import platform
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest

from ringspan.tls import places, returns
from ringspan.tls.bounded import Refused
from unit.go_executable import CODE, NOP, RET
from unit.harness import compiler

X86 = platform.machine() == "x86_64"
SOURCE = """
typedef int (*function)(void *, int);
int counter;
__attribute__((noinline, visibility("hidden"))) int deep(void *at, int n) { counter += n; return n > 3 ? 7 : counter; }
int SSL_write(void *at, int n) { counter++; return deep(at, n); }
int SSL_read(void *at, int n) { return n > 1 ? SSL_write(at, n + 1) : n; }
int SSL_do_handshake(void *at, int n) { counter++; return ((function *)at)[1](at, n); }
LEAP
"""
LEAP = "int SSL_peek(void *at, int n) { return 0; } int SSL_read_ex(void *at, int n) { return ((function *)at)[0](at, n); }"


def library(folder: Path, leap: str = "", *flags: str) -> Path:
    (folder / "a.c").write_text(SOURCE.replace("LEAP", leap))
    words = [compiler(), "-O2", "-shared", "-fPIC", *flags, str(folder / "a.c"), "-o", str(folder / "a.so")]
    subprocess.run(words, check=True)
    return folder / "a.so"


def returned_in(path: Path, *names: str) -> set[int]:
    """The places of return instructions in functions, as objdump tells; addresses are offsets here."""
    out = set()
    text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    for name, body in re.findall(r"^\w+ <(\w+)>:\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE):
        if name in names:
            out |= {int(at, 16) for at in re.findall(r"^ *(\w+):.*\tret", body, re.MULTILINE)}
    return out


@pytest.mark.parametrize("flags", [(), ("-Wl,-Bsymbolic",), ("-O1",), ("-fcf-protection=full",)])
def test_jumps_into_other_functions_are_followed(tmp_path: Path, flags: tuple[str, ...]) -> None:
    if not X86 and "-fcf-protection=full" in flags:
        pytest.skip("a flag of x86")
    path = library(tmp_path, "", *flags)
    found = places.find_in(str(path))
    assert found.obstacle == ""
    assert set(found.returns) >= returned_in(path, "SSL_read", "SSL_write", "SSL_do_handshake")
    assert set(found.returns) <= returned_in(path, "SSL_read", "SSL_write", "SSL_do_handshake", "deep")
    assert set(found.returns) & returned_in(path, "deep") or "-O1" in flags


def test_a_function_that_moves_bytes_and_goes_on_where_a_register_says_is_refused(tmp_path: Path) -> None:
    found = places.find_in(str(library(tmp_path, LEAP)))
    assert "register" in found.obstacle
    assert not found.entries


@pytest.mark.skipif(not X86, reason="of x86")
def test_a_slot_of_the_linkers_in_the_place_of_a_stub_is_refused(tmp_path: Path) -> None:
    assert places.find_in(str(library(tmp_path, "", "-fno-plt"))).obstacle


def test_the_systems_own_libraries() -> None:
    """All of them are stripped; what they jump into has no name."""
    text = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    paths = re.findall(r"lib(?:ssl|gnutls)\.so\.\d+ .*=> (\S+)", text)
    if not paths:
        pytest.skip("there is none")
    for path in paths:
        begun = time.thread_time()
        found = places.find_in(os.path.realpath(path))
        assert (found.obstacle, found.language) == ("", places.LIBRARY)
        assert len(found.returns) >= 4
        assert time.thread_time() - begun < 1


def test_code_that_is_none_is_refused() -> None:
    assert returns.MACHINE.look_into(CODE).returns[0] == len(CODE) // 2
    if X86:
        with pytest.raises(Refused, match="not known"):
            returns.MACHINE.look_into(NOP * 8 + b"\x06" + RET)


@pytest.mark.skipif(not X86, reason="of x86")
@pytest.mark.parametrize(
    "code",
    [
        b"\x67\x0f\xb9\x40\x0c" + RET,  # UD1, which Capstone takes for shorter than it is
        b"\x75\x01" + b"\x05\xc3\x90\x90\x90" + RET,  # JNE into an instruction, which has C3 in it
        b"\x74\x02\x90\x0f",
    ],
)
def test_code_whose_sizes_are_in_doubt_is_refused(code: bytes) -> None:
    with pytest.raises(Refused, match="not known"):
        returns.MACHINE.look_into(code)


@pytest.mark.skipif(not X86, reason="of x86")
def test_a_return_that_nothing_leads_to_is_left_alone() -> None:
    assert returns.MACHINE.look_into(b"\xeb\x01" + RET + RET).returns == [3]
    assert returns.MACHINE.look_into(b"\x75\x01" + RET + RET).returns == [2, 3]


@pytest.mark.parametrize("megabytes", [1, 64])
def test_a_function_that_is_too_long_costs_nothing(tmp_path: Path, megabytes: int) -> None:
    path, size = library(tmp_path), megabytes << 20
    raw = path.read_bytes()
    table = next(one for one in _sections(raw) if one[1] == 11)  # SHT_DYNSYM
    symbols = [
        at
        for at in range(table[4], table[4] + table[5], 24)
        if raw[at + 4] & 15 == 2 and raw[at + 16 : at + 24] != bytes(8)
    ]
    grown = bytearray(raw)
    for at in symbols:
        grown[at + 16 : at + 24] = size.to_bytes(8, "little")
    for at in range(int.from_bytes(raw[32:40], "little"), len(raw), 56):
        if (
            at + 56 <= int.from_bytes(raw[32:40], "little") + 56 * int.from_bytes(raw[56:58], "little")
            and raw[at + 4] & 1
        ):
            grown[at + 32 : at + 40] = (2 * size).to_bytes(8, "little")  # p_filesz of what is run
    path.write_bytes(grown)
    os.truncate(path, 3 * size)
    begun = time.thread_time()
    assert "too long" in places.find_in(str(path)).obstacle
    assert time.thread_time() - begun < 0.5


def _sections(raw: bytes) -> list[tuple[int, ...]]:
    at, size, count = int.from_bytes(raw[40:48], "little"), *struct.unpack_from("<HH", raw, 58)
    return [struct.unpack_from("<IIQQQQ", raw, at + size * index) for index in range(count)]
