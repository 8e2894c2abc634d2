"""Which files hold a TLS library, and where its functions lie."""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from ringspan import contract
from ringspan.probe import tls_functions
from ringspan.tls import elf, libraries
from ringspan.tls.bounded import Bounded, Refused
from ringspan.tls.libraries import Wanted
from unit.harness import compiler

SOURCE = "int SSL_read(void) { return 1; }\nint SSL_write(void) { return 2; }\nint main(void) { return SSL_read() - SSL_write(); }\n"


def built(folder: Path, *flags: str) -> Path:
    source, out = folder / "a.c", folder / "a.out"
    source.write_text(SOURCE)
    subprocess.run([compiler(), *flags, str(source), "-o", str(out)], check=True)
    return out


def found_in(path: Path) -> dict[str, int]:
    """The offsets of the functions that a file names; none of one that is refused."""
    with path.open("rb") as file, suppress(Refused):
        found = elf.Elf(Bounded(file.fileno())).functions(tls_functions.BY_NAME)
        return {name: span.offset for name, span in found.items()}
    return {}


def nm(path: Path, *flags: str) -> dict[str, int]:
    text = subprocess.run(["nm", *flags, str(path)], capture_output=True, text=True, check=True).stdout
    return {name: int(value, 16) for value, name in re.findall(r"^(\w+) T (SSL_\w+)$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("flags", "listed"),
    [
        (["-shared", "-fPIC"], ["-D"]),
        (["-static"], []),
        (["-rdynamic"], ["-D"]),
        (["-shared", "-fPIC", "-Wl,--hash-style=sysv"], ["-D"]),
    ],
)
def test_functions_are_found_where_the_linker_has_put_them(tmp_path: Path, flags: list[str], listed: list[str]) -> None:
    path = built(tmp_path, *flags)
    found = found_in(path)
    headers = subprocess.run(["readelf", "-lW", str(path)], capture_output=True, text=True, check=True).stdout
    loads = [[int(n, 16) for n in one] for one in re.findall(r"LOAD +(\w+) (\w+) \w+ (\w+)", headers)]
    expected = {
        name: value - address + offset
        for name, value in nm(path, *listed).items()
        for offset, address, size in loads
        if address <= value < address + size
    }
    assert set(expected) == {"SSL_read", "SSL_write"}
    assert found == expected


def test_a_file_without_symbols_has_none(tmp_path: Path) -> None:
    path = built(tmp_path)
    subprocess.run(["strip", str(path)], check=True)
    assert found_in(path) == {}


@pytest.mark.parametrize("cut", [0, 3, 20, 64, 200, 5000])
def test_what_is_no_whole_elf_file_has_none(tmp_path: Path, cut: int) -> None:
    whole = built(tmp_path, "-shared", "-fPIC").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:cut])
    assert found_in(tmp_path / "cut") == {}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_file_says_raises_nothing(tmp_path: Path, seed: int) -> None:
    whole, draw = built(tmp_path, "-shared", "-fPIC").read_bytes(), random.Random(seed)
    for _ in range(50):
        raw = bytearray(whole)
        for _ in range(draw.choice([1, 4, 64])):
            raw[draw.choice([draw.randrange(64), draw.randrange(len(raw)), -draw.randrange(1, 2000)])] = draw.randrange(
                256
            )
        (tmp_path / "wrong").write_bytes(raw)
        found_in(tmp_path / "wrong")


@pytest.mark.parametrize("place", range(0, 64, 3))
def test_a_header_with_any_byte_wrong_raises_nothing(tmp_path: Path, place: int) -> None:
    raw = bytearray(built(tmp_path, "-shared", "-fPIC").read_bytes())
    for value in (0, 0x7F, 0xFF):
        raw[place] = value
        (tmp_path / "wrong").write_bytes(raw)
        found_in(tmp_path / "wrong")


def test_of_another_machine_nothing_is_found(tmp_path: Path) -> None:
    raw = bytearray(built(tmp_path, "-shared", "-fPIC").read_bytes())
    raw[18] = 0x16 if raw[18] != 0x16 else 0x3E  # e_machine
    (tmp_path / "other").write_bytes(raw)
    assert found_in(tmp_path / "other") == {}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", True),
        ("/opt/app/libssl-0f3b1a.so.1.1", True),
        ("/usr/lib/libgnutls.so.30.34.3", True),
        ("/usr/lib/libnetty_tcnative_linux_x86_64.so", False),
        ("/usr/lib/libpython3.12.so.1.0", True),
        ("/usr/bin/node", True),
        ("/usr/lib/libc.so.6", False),
        ("/srv/libmine.so", False),
    ],
)
def test_which_files_are_looked_into(path: str, wanted: bool) -> None:
    assert Wanted()(path) == wanted
    assert Wanted(include=("/srv/*", "*netty*"))(path) == (wanted or "/srv/" in path or "netty" in path)
    assert not Wanted(include=(path,), exclude=("*",))(path)


def test_what_is_excluded_as_the_linker_names_it_is_so_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link = tmp_path / "libssl[1].so.3.0.7", tmp_path / "libssl.so.3"
    real.touch()
    link.symlink_to(real)
    monkeypatch.setattr(libraries, "cached", lambda: [str(link)])
    assert Wanted(exclude=("*/libssl.so.3",))(str(real))
    assert not Wanted(exclude=("*/libssl.so.3",)).resolved()(str(real))
    assert Wanted(exclude=("*/libgnutls*",)).resolved()(str(real))


def test_the_linkers_cache_is_read_as_ldconfig_does() -> None:
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin")
    if not ldconfig:
        pytest.skip("needs ldconfig")
    text = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    assert sorted(libraries.cached()) == sorted(set(re.findall(r"=> (\S+)$", text, re.MULTILINE)))


@pytest.mark.parametrize("raw", [b"", b"glibc-ld.so.cache1.1", b"glibc-ld.so.cache1.1" + b"\xff" * 100])
def test_a_cache_that_is_none_names_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "cache").write_bytes(raw)
    assert libraries.cached(tmp_path / "cache") == []


def test_what_a_process_has_mapped() -> None:
    path = os.path.realpath(sys.executable)
    mine = list(libraries.of_process(os.getpid()))
    assert (os.getpid(), path, os.stat(path).st_ino) in [one[:3] for one in mine]  # noqa: PTH116
    assert len(mine) == len({one.path for one in mine})
    assert all(one.path.startswith("/") for one in mine)
    assert list(libraries.of_process(1 << 22)) == []


def hostile_maps(proc: Path, pid: int, count: int) -> None:
    """So many mappings of files of long paths, of which every tenth is mapped to run twice."""
    (proc / str(pid)).mkdir()
    with (proc / str(pid) / "maps").open("w") as file:
        for i in range(count):
            begin = 0x1000 * (i + 1)
            path = f"/{'d' * 3_000}/{i // 20:06}.so"
            file.write(f"{begin:x}-{begin + 4096:x} r-{'-x'[i % 10 == 0]}p 00000000 08:01 {i + 1}    {path}\n")


def test_of_very_many_mappings_the_first_are_read_and_little_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile_maps(tmp_path, 1, 5_000)
    hostile_maps(tmp_path, 2, 10_000)
    tracemalloc.start()
    found = [sum(1 for _ in libraries.of_process(pid, tmp_path)) for pid in (1, 2, 2)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [250, 275, 275]  # 16 MiB are 5,491 such lines
    assert peak < 1 << 20
    assert caplog.messages == ["process 2 has more than 16 MiB of mappings: TLS libraries beyond are not seen"]


def test_functions_have_the_numbers_of_the_contract() -> None:
    numbers = contract.names("TLS_")
    assert sorted(numbers) == list(tls_functions.NUMBERS)
    for name, value in numbers.items():
        assert getattr(tls_functions, value.upper()).number == name


def test_the_keys_of_sessions_are_laid_out_as_c_does() -> None:
    from ringspan.probe import memory  # noqa: PLC0415
    from ringspan.sweep import CALLS_BYTES, TLS_KEY  # noqa: PLC0415

    sizes = memory.sizes()
    assert sizes["tls_frame"].size == sizes["goroutine"].size == TLS_KEY.itemsize
    assert sizes["tls_key"].size == TLS_KEY.itemsize == 3 * ctypes.sizeof(ctypes.c_uint64)
    assert {
        name: sizes[of].size
        for name, of in (
            ("tls_calls", "tls_call"),
            ("tls_stacks", "tls_stacks"),
            ("go_calls", "tls_calls_of_goroutine"),
        )
    } == CALLS_BYTES
