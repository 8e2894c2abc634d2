"""Go executables: their tables are read whatever built them, and refused where they are not what they say."""

from __future__ import annotations

import os
import platform
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ringspan.probe import tls_functions
from ringspan.tls import places, report
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.survey import Survey
from unit.go_executable import CODE_AT, FUNCTION_BYTES, NOP, RET, TABLE_AT, Executable

NAMES = list(tls_functions.GO)


def found_in(tmp_path: Path, raw: bytes) -> places.Places:
    (tmp_path / "program").write_bytes(raw)
    return places.find_in(str(tmp_path / "program"))


def test_entries_and_returns_are_where_the_table_says(tmp_path: Path) -> None:
    found = found_in(tmp_path, Executable().raw())
    assert (found.language, found.obstacle) == (places.GO, "")
    assert found.entries == {
        CODE_AT + FUNCTION_BYTES * i: tls_functions.GO[name].number for i, name in enumerate(NAMES)
    }
    half = FUNCTION_BYTES // 2
    assert sorted(found.returns) == [
        CODE_AT + FUNCTION_BYTES * i + at
        for i, name in enumerate(NAMES)
        if tls_functions.GO[name].returns
        for at in (
            [half] if platform.machine() == "x86_64" else range(half, FUNCTION_BYTES, len(RET))
        )  # what is come to
    ]


@pytest.mark.skipif(not shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin"), reason="needs go")
def test_of_a_real_one_all_is_found_where_go_itself_finds_it() -> None:
    path = os.path.realpath(shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin") or "")
    found = places.find_in(path)
    lines = subprocess.run([path, "version", "-m", path], capture_output=True, text=True, check=True).stdout
    assert found.version == lines.split()[1]
    assert found.obstacle == ""
    assert len(found.entries) >= 4
    assert len(found.returns) > 4


def test_one_without_crypto_tls_is_named_and_not_followed(tmp_path: Path) -> None:
    found = found_in(tmp_path, Executable(names=["runtime.main", "main.main", "crypto/tls.(*Conn).Reader"]).raw())
    assert (found.language, found.obstacle, found.entries) == (places.GO, places.NO_TLS, {})


@pytest.mark.parametrize(
    "wrong",
    [
        Executable(values={"count": 1 << 60}),
        Executable(values={"count": 1 << 21}),
        Executable(values={"names": 1 << 50}),
        Executable(values={"functions": 1 << 50}),
        Executable(values={"functions": 8}),
        Executable(values={"text": 1 << 40}),
        Executable(values={"text": 0}),
        Executable(magic=0xFFFFFFFB),
        Executable(names=NAMES * 2),
        Executable(code=(NOP * 64)[:FUNCTION_BYTES]),
    ],
)
def test_tables_that_are_not_what_they_say_are_refused(tmp_path: Path, wrong: Executable) -> None:
    found = found_in(tmp_path, wrong.raw())
    assert found.obstacle
    assert not found.entries


def test_before_go_1_17_calls_are_others(tmp_path: Path) -> None:
    """A table of 1.16 or 1.17, and no word of which."""
    raw = bytearray(Executable(magic=0xFFFFFFFA).raw())
    assert found_in(tmp_path, bytes(raw)).entries == {}


def refused_within(path: Path, seconds: float) -> str:
    begun = time.thread_time()
    found = places.find_in(str(path))
    assert time.thread_time() - begun < seconds
    assert not found.entries
    return found.obstacle


def test_a_file_full_of_magic_numbers_is_refused_quickly(tmp_path: Path) -> None:
    """And is named by doctor."""
    raw = bytearray(Executable(values={"count": 1 << 60}).raw())
    raw += raw[TABLE_AT : TABLE_AT + 16] * (1 << 20)
    for at in (64 + 32, 64 + 40):  # p_filesz, p_memsz
        raw[at : at + 8] = len(raw).to_bytes(8, "little")
    path = tmp_path / "program"
    path.write_bytes(raw)
    assert refused_within(path, 2.0)
    (one,) = report.judged(str(path), [Mapped(os.getpid(), str(path), path.stat().st_ino)], Survey(Wanted()), Wanted())
    assert "not followed" in one.line()


def test_a_large_file_of_holes_is_refused_quickly(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(Executable(values={"names": 72, "cu": 1 << 39, "functions": 1 << 39}).raw())
    with path.open("r+b") as file:
        file.truncate(1 << 40)
        for at in (64 + 32, 64 + 40):
            file.seek(at)
            file.write((1 << 40).to_bytes(8, "little"))
    assert refused_within(path, 2.0)


def test_a_file_that_is_cut_while_it_is_read_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "program"
    path.write_bytes(Executable().raw())
    read = os.pread

    def cut(fd: int, count: int, at: int) -> bytes:
        os.truncate(path, 200)
        return read(fd, count, at)

    monkeypatch.setattr(os, "pread", cut)
    assert places.find_in(str(path)).obstacle == "it is cut"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_table_says_raises_nothing(tmp_path: Path, seed: int) -> None:
    whole, draw = Executable().raw(), random.Random(seed)
    for _ in range(50):
        raw = bytearray(whole)
        for _ in range(draw.choice([1, 4, 64])):
            raw[draw.choice([draw.randrange(120), TABLE_AT + draw.randrange(900)])] = draw.randrange(256)
        found_in(tmp_path, bytes(raw))


@pytest.mark.parametrize("end", [0, 5, 119, 200, TABLE_AT + 20, TABLE_AT + 300, CODE_AT + 10])
def test_one_that_is_cut_has_none(tmp_path: Path, end: int) -> None:
    assert found_in(tmp_path, Executable().raw()[:end]).entries == {}
