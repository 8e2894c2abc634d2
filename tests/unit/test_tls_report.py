"""What doctor says of files that hold a TLS library, or seem to."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

import pytest

from ringspan.tls import libraries, report, survey
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.survey import Survey
from unit.harness import compiler

FUNCTIONS = "int SSL_read(void *a, void *b, int n) { return n + 1; }\nint SSL_write(void *a, void *b, int n) { return n + 2; }\n"
MAIN = "int main(void) { return 0; }\n"
MENTION = 'const char *const built = "OpenSSL 3.0.15 3 Sep 2024, BoringSSL, /rustls-0.23.5/src/";\n'
TLS12, TLS13 = 'const char label[] = "client finished";\n', 'const char label[] = "c hs traffic";\n'
RUST = 'const char path[] = "/root/index/rustls-0.23.5/src/msgs.rs";\n'
OPENSSL = 'const char text[] = "OpenSSL 3.0.15 3 Sep 2024";\n'
UNKNOWN = "no function of OpenSSL or GnuTLS is named in it"


def built(folder: Path, source: str, *flags: str, name: str = "program") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.c").write_text(source)
    subprocess.run([compiler(), "-w", str(folder / f"{name}.c"), *flags, "-o", str(folder / name)], check=True)
    return folder / name


def mapped(path: Path) -> Mapped:
    return Mapped(os.getpid(), str(path), path.stat().st_ino)


def said(path: Path, wanted: Wanted | None = None, looks: Survey | None = None) -> list[str]:
    """The lines of a file, after its path."""
    wanted = wanted or Wanted()
    lines = [one.line() for one in report.judged(str(path), [mapped(path)], looks or Survey(wanted), wanted)]
    assert all(f"TLS of {path} (1 process" in line for line in lines)
    return [line.replace(f"TLS of {path} (1 process", "(") for line in lines]


@pytest.mark.parametrize("flags", [(), ("-s",), ("-s", "-static"), ("-Wl,-z,noseparate-code",), ("-no-pie", "-s")])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (MAIN, []),
        (MAIN + MENTION, []),
        (MAIN + TLS12, [f"no  (): not followed: {UNKNOWN}"]),
        (MAIN + TLS13 + OPENSSL, [f"no  (, OpenSSL 3.0.15): not followed: {UNKNOWN}"]),
        (MAIN + TLS13 + RUST, ["no  (, rustls 0.23.5): not followed: rustls is not followed"]),
        (MAIN + TLS13 + RUST + OPENSSL, [f"no  (, rustls 0.23.5, OpenSSL 3.0.15): not followed: {UNKNOWN}"]),
        (MAIN + TLS12 + 'const char text[] = "wolfSSL 5.5.4";\n', ["no  (, wolfSSL 5.5.4): not followed: wolfSSL is not followed"]),
        (MAIN + TLS12 + 'const char text[] = "src/ssl/ssl_lib.cc";\n', [f"no  (, BoringSSL): not followed: {UNKNOWN}"]),
    ],
)  # fmt: skip
def test_executables_without_symbols(tmp_path: Path, flags: tuple[str, ...], source: str, expected: list[str]) -> None:
    """A program that only names a library, or calls one, holds none."""
    assert said(built(tmp_path, source, *flags)) == expected


def test_an_executable_that_calls_a_shared_library_is_not_told(tmp_path: Path) -> None:
    library = built(tmp_path, FUNCTIONS, "-shared", "-fPIC", name="libssl.so")
    calls = "int SSL_read(void *, void *, int);\nint main(void) { return SSL_read(0, 0, 1); }\n"
    assert said(built(tmp_path, calls + MENTION, "-Wl,-rpath,$ORIGIN", str(library))) == []
    assert said(library) == ["ok  (): followed"]


def test_symbols_of_one_library_and_constants_of_another(tmp_path: Path) -> None:
    """What is followed of a program is its OpenSSL; that says nothing of its rustls."""
    assert said(built(tmp_path, MAIN + FUNCTIONS + TLS13 + RUST)) == [
        "ok  (, rustls 0.23.5): followed",
        "no  (, rustls 0.23.5): not followed: rustls is not followed",
    ]


def test_include_and_exclude(tmp_path: Path) -> None:
    """By the settings of a trace, so that it is what a trace would do."""
    library = built(tmp_path, FUNCTIONS + TLS13, "-shared", "-fPIC", name="libmine.so")
    program = built(tmp_path, MAIN + FUNCTIONS)
    plain = built(tmp_path, MAIN, name="plain")
    mine, every = Wanted(include=("*/libmine.so",)), Wanted(exclude=("*",))
    assert said(library) == [f"no  (): not followed: {report.NOT_INCLUDED}"]
    assert said(library, mine) == ["ok  (): followed, by --tls-include"]
    assert said(program, mine) == ["ok  (): followed"]
    for one in (library, program):
        assert said(one, every) == ["no  (): not followed: left out by --tls-exclude"]
        assert said(one, Wanted(include=("*",), exclude=("*",))) == ["no  (): not followed: left out by --tls-exclude"]
    assert said(plain, every) == []


def test_a_link_to_what_is_left_out(tmp_path: Path) -> None:
    """By any of its paths, as a trace does."""
    built(tmp_path / "kept", MAIN + FUNCTIONS)
    (tmp_path / "link").symlink_to(tmp_path / "kept" / "program")
    assert said(tmp_path / "link", Wanted(exclude=("*/kept/*",))) == ["no  (): not followed: left out by --tls-exclude"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("libjvm.so", "Java's own TLS (JSSE) is in no library: an in-process agent works"),
        ("libssl3.so", "NSS is not followed"),
    ],
)
def test_libraries_that_are_known_by_name_alone(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / name).write_bytes(b"whatever it is")
    assert said(tmp_path / name) == [f"no  (): not followed: {why}"]


@pytest.mark.parametrize(("name", "expected"), [("libssl.so.3", 1), ("libother.so", 0)])
def test_what_a_path_leads_to_now_is_not_waited_for(tmp_path: Path, name: str, expected: int) -> None:
    """A FIFO in the place of a library that is still mapped."""
    os.mkfifo(tmp_path / name)
    looks = Survey(Wanted())
    begun = time.monotonic()
    assert said(tmp_path / name, looks=looks) == [f"no  (): not followed: {report.UNREADABLE}"] * expected
    assert looks.left_out[survey.UNREADABLE] == 1
    assert time.monotonic() - begun < 1


def test_a_file_that_is_no_program_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("client finished; c hs traffic")
    assert said(tmp_path / "text") == []


@pytest.mark.parametrize(
    ("machine", "bits"), [(0xB7 if os.uname().machine == "x86_64" else 0x3E, 2), (3, 1)], ids=["other", "32 bits"]
)
def test_a_file_for_another_machine(tmp_path: Path, machine: int, bits: int) -> None:
    path = built(tmp_path, MAIN + TLS13)
    raw = bytearray(path.read_bytes())
    raw[4], raw[18] = bits, machine
    path.write_bytes(raw)
    assert said(path) == ["no  (): not followed: it is for another machine"]


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = built(tmp_path, MAIN + TLS13)
    os.link(path, tmp_path / "again")
    looks = Survey(Wanted())
    first = said(path, looks=looks)
    monkeypatch.setattr(os, "pread", None)
    assert said(tmp_path / "again", looks=looks) == first != []


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    """What is left is counted, by files, and told."""
    paths = [built(tmp_path, MAIN + TLS13, name=f"program-{n}") for n in range(4)]
    looks = Survey(Wanted(), bytes_max=0)
    assert [bool(said(path, looks=looks)) for path in paths] == [True, False, False, False]
    assert looks.left_out == {survey.NO_TIME: 3}
    late = Survey(Wanted(), seconds_max=-1)
    assert said(paths[0], looks=late) == []
    assert late.left_out == {survey.NO_TIME: 1}


def test_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "Survey", lambda wanted: Survey(wanted, seconds_max=-1))
    with subprocess.Popen(["sleep", "60"]) as process:
        lines = list(report.lines(Wanted()))
        process.kill()
    assert any(line.endswith(f" not looked into: {survey.NO_TIME}") for line in lines)


def test_a_file_whose_parts_cost_too_much(tmp_path: Path) -> None:
    """A stranger's: 1 TiB of holes, which a segment spans."""
    path = built(tmp_path, MAIN, "-s")
    raw = bytearray(path.read_bytes())
    at, count = int.from_bytes(raw[32:40], "little"), int.from_bytes(raw[56:58], "little")
    for place in range(at, at + 56 * count, 56):
        if raw[place] == 1 and not raw[place + 4] & 3:  # PT_LOAD, not to be run nor written
            raw[place + 8 : place + 16] = bytes(8)
            raw[place + 32 : place + 40] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(raw)
    os.truncate(path, 1 << 40)
    looks = Survey(Wanted())
    begun = time.thread_time()
    assert said(path, looks=looks) == []
    assert looks.left_out == {survey.COSTLY: 1}
    assert time.thread_time() - begun < 3


def test_a_library_of_this_process_by_its_mapping(tmp_path: Path) -> None:
    """Its mapping leads to it whatever its path does."""
    path = built(tmp_path, FUNCTIONS + TLS13, "-shared", "-fPIC", name="libmine.so")
    ctypes.CDLL(str(path))
    (one,) = (one for one in libraries.of_process(os.getpid()) if one.path == str(path))
    assert one.inode == path.stat().st_ino
    assert 0 < one.begin < one.end
    assert any(line.startswith(f"{one.begin:x}-") for line in os.listdir("/proc/self/map_files"))  # noqa: PTH208
