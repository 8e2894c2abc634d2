"""What `ringspan doctor` says of the TLS libraries of real programs that run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from peers import build
from peers.process import wait_until
from ringspan.tls import libraries, report

from .https_peers import PEERS, begun, go
from .test_tls_files import LIBRARY, built
from .tls_peers import answers, make_certificates, make_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .https_peers import Peer
    from .stage import Ports

pytestmark = pytest.mark.root
UNNAMED = "not followed: no function of OpenSSL or GnuTLS is named in it"
EXPECTED = {  # by library and linkage: whose line, and what it says
    ("OpenSSL 3", "static, with symbols", "a C program (static)"): ("/peer", r"ok .*OpenSSL.*: followed"),
    ("OpenSSL 3", "static, stripped", "a C program, stripped"): ("/peer", rf"no .*OpenSSL.*: {UNNAMED}"),
    ("BoringSSL", "static, with symbols", "a C program (boringssl)"): ("/peer", r"ok .*BoringSSL.*: followed"),
    ("OpenSSL 1.1", "shared", "a C program (openssl11)"): ("/libssl-3a880ada.so.1.1", r"ok .*OpenSSL 1\.1\.1.*: followed"),
    ("OpenSSL 3", "static, with symbols", "node"): ("/node", r"ok .*OpenSSL 3\..*: followed"),
    ("Go's crypto/tls", "static, stripped", "net/http"): ("/peer", r"ok .*, go1\..*: followed"),
    ("rustls", "static", "a Rust program"): ("/tls-peer", r"no .*rustls \d.*: not followed: rustls is not followed"),
    ("JSSE", "of the virtual machine", "HttpsServer"): ("/libjvm.so", rf"no .*: not followed: {re.escape(report.IN_NAMES['libjvm.'])}"),
}  # fmt: skip
SERVERS = [peer for peer in PEERS if peer.role == "server" and (*peer.kind[:2], peer.name) in EXPECTED]


def doctor(*flags: str) -> list[str]:
    command = [sys.executable, "-m", "ringspan.cli", "doctor", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.splitlines()


@pytest.mark.parametrize(
    ("asked", "least", "most", "whose"),
    [
        ("spans_per_second: 1", 50, 70, "the default"),
        ("{ring_bytes: 1073741824, connections: 1000000}", 1_900, 2_500, "these"),
        ("tls: auto", 65, 75, "these"),
    ],
)
def test_the_kernel_memory_is_what_the_file_asks_for(
    tmp_path: Path, asked: str, least: float, most: float, whose: str
) -> None:
    file = tmp_path / "ringspan.yaml"
    file.write_text(asked)
    (line,) = (line for line in doctor("--config", str(file)) if "kernel memory" in line)
    size = re.fullmatch(rf"ok  kernel memory: ([\d.]+) MB are locked by {whose} settings \(.*\)", line)
    assert size, line
    assert least < float(size[1]) < most


def told(path: Path | str, *flags: str) -> list[str]:
    """The lines of a file."""
    return [line for line in doctor(*flags) if f"TLS of {path} (" in line]


def file_of(pid: int, ending: str) -> str:
    """What a process has mapped, by the end of its path."""
    text = Path(f"/proc/{pid}/maps").read_text()
    return next(
        words[5] for words in map(str.split, text.splitlines()) if len(words) == 6 and words[5].endswith(ending)
    )


def test_every_row_is_run() -> None:
    assert len(SERVERS) == len(EXPECTED)


@pytest.mark.parametrize("peer", SERVERS, ids=lambda one: f"{one.name}-{one.kind.library}".replace(" ", "_"))
def test_servers(peer: Peer, tmp_path: Path, ports: Ports) -> None:
    port = ports.take()
    ending, expected = EXPECTED[*peer.kind[:2], peer.name]
    make_certificates(tmp_path)
    make_files(tmp_path)
    try:
        words = peer.words(port, tmp_path)
    except build.PeerUnavailable as error:
        pytest.skip(str(error))
    with begun(words, tmp_path) as process:
        go(process)
        assert wait_until(lambda: answers(port), 20), (tmp_path / "output.log").read_text()
        (line,) = told(file_of(process.pid, ending))
    assert re.fullmatch(expected, line), line


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that says a word once it is to be looked at."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


LOAD = "import ctypes, os, sys, time; ctypes.CDLL(sys.argv[1]); [os.unlink(one) for one in sys.argv[2:]]; print(flush=True); time.sleep(60)"


def system_library() -> Path:
    return Path(next(path for path in libraries.cached() if path.endswith("/libssl.so.3")))


def test_a_library_that_its_loader_deletes(tmp_path: Path) -> None:
    """As netty does, by default, with the one that it carries along."""
    path = tmp_path / "libnetty_tcnative_linux.so"
    shutil.copy(system_library(), path)
    with running(sys.executable, "-c", LOAD, str(path), str(path)):
        (line,) = told(f"{path} (deleted)")
    assert re.search(rf"^no .*OpenSSL.*: not followed: {report.GONE}$", line), line


def test_a_library_of_another_name(tmp_path: Path) -> None:
    """It is followed if that is asked for, and so the remedy is named; so it is by a settings file."""
    path = tmp_path / "libmine.so"
    shutil.copy(system_library(), path)
    (tmp_path / "settings.yaml").write_text(f"tls_include: ['{path}']\ntls_exclude: ['*/libssl.so*']\n")
    with running(sys.executable, "-c", LOAD, str(path)):
        assert [line.partition(": ")[2] for line in told(path)] == [f"not followed: {report.NOT_INCLUDED}"]
        assert [line.partition(": ")[2] for line in told(path, "--tls-include", "*/libmine.so")] == [
            "followed, by --tls-include"
        ]
        by_file = told(path, "--config", str(tmp_path / "settings.yaml"))
        assert [line.partition(": ")[2] for line in by_file] == ["followed, by --tls-include"]
        both = told(path, "--tls-include", str(path), "--tls-exclude", f"{tmp_path}/*")
        assert [line.partition(": ")[2] for line in both] == [f"not followed: {report.EXCLUDED}"]


def test_a_module_with_boringssl_inside() -> None:
    try:
        python = build.ensure("tls-curl-cffi")
    except build.PeerUnavailable as error:
        pytest.skip(str(error))
    code = "import curl_cffi, time; print(flush=True); time.sleep(60)"
    with running(str(python), "-c", code) as process:
        path = file_of(process.pid, "/_wrapper.abi3.so")
        (line,) = told(path)
        assert re.fullmatch(rf"no .*BoringSSL.*: not followed: {report.NOT_INCLUDED}", line), line
        (line,) = told(path, "--tls-include", "*/curl_cffi/*")
        assert re.fullmatch(r"ok .*BoringSSL.*: followed, by --tls-include", line), line


def test_a_module_with_openssl_inside_and_no_names(tmp_path: Path) -> None:
    """As Python's wheels have it: linked in, hidden and stripped."""
    source = "int SSL_connect(void *); int ask(void *ssl) { return SSL_connect(ssl); }"
    archives = ["-shared", "-fPIC", "-s", "-Wl,--exclude-libs,ALL", "-l:libssl.a", "-l:libcrypto.a"]
    path = built(tmp_path, "_module.abi3.so", source, *archives)
    with running(sys.executable, "-c", LOAD, str(path)):
        for flags in ((), ("--tls-include", str(path))):
            (line,) = told(path, *flags)
            assert re.fullmatch(rf"no .*OpenSSL.*: {UNNAMED}", line), line


def test_programs_without_tls_are_not_told(tmp_path: Path) -> None:
    """Though they call a library, or name it in what they say of themselves."""
    library = built(tmp_path, "libssl.so", LIBRARY, "-shared", "-fPIC", "-Wl,-soname,libssl.so")
    caller = 'int SSL_connect(void *); int main(int n) { puts("OpenSSL 3.0.15 3 Sep 2024"); fflush(0); pause(); return SSL_connect(0); }'
    program = built(tmp_path, "program", caller, str(library), "-Wl,-rpath,$ORIGIN")
    with ExitStack() as stack:
        for words in (["sh", "-c", "echo; read x"], [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
                      [str(program)]):  # fmt: skip
            stack.enter_context(running(*words))
        lines = doctor()
    named = [line for line in lines if "TLS of " in line]
    assert any(f"TLS of {library} (" in line for line in named)
    for path in (str(program), os.path.realpath(sys.executable), os.path.realpath(shutil.which("sh") or "")):
        assert not any(f"TLS of {path} (" in line for line in named)


def test_it_takes_no_long() -> None:
    begun_s = time.monotonic()
    assert doctor()
    assert time.monotonic() - begun_s < 45
