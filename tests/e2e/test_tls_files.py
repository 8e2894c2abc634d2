"""Files that are followed: overwritten in place, for one process alone, more than there are descriptors for."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ringspan.tls import followed
from unit.harness import compiler

from .kernel_objects import children
from .tls_peers import seen
from .tracer import How, Tracer, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
# A TLS library that ciphers nothing: requests and answers are what its caller hands over.
LIBRARY = """
#include <string.h>
static const char answer[] = "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
int SSL_connect(void *ssl) { return 1; }
int SSL_write(void *ssl, const void *from, int bytes) { return bytes; }
int SSL_read(void *ssl, void *to, int bytes)
{
	memcpy(to, answer, sizeof(answer) - 1);
	return sizeof(answer) - 1;
}
"""
# ... another one, in which there is other code wherever the first one has its functions: it tells if that was changed.
OTHER = """
int SSL_connect(void *ssl)
{
	long sum = 0;

	asm volatile(".rept 400\\nmovabsq $0x1111111111111111, %%rax\\nxorq %%rax, %0\\n.endr" : "+r"(sum) : : "rax");
	return sum ? -1 : 1;
}
""" + LIBRARY.replace("int SSL_connect(void *ssl) { return 1; }", "")
PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int SSL_connect(void *ssl);
int SSL_write(void *ssl, const void *from, int bytes);
int SSL_read(void *ssl, void *to, int bytes);
int main(int count, char **words)
{
	char request[256], got[256];

	usleep(count > 2 ? 500000 : 0); /* who looks for new libraries has found this one then */
	snprintf(request, sizeof(request), "GET %s HTTP/1.1\\r\\nHost: there\\r\\n\\r\\n", words[1]);
	if (SSL_connect(got) != 1)
		return 3;
	SSL_write(got, request, strlen(request));
	SSL_read(got, got + 16, sizeof(got) - 16);
	return 0;
}
"""


def built(folder: Path, name: str, source: str, *flags: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.c").write_text(source)
    out = folder / name
    subprocess.run([compiler(), "-O1", "-w", str(folder / f"{name}.c"), *flags, "-o", str(out)], check=True)
    return out


def program_of(folder: Path) -> Path:
    """A program and its library, which lies beside it."""
    library = built(folder, "libssl.so", LIBRARY, "-shared", "-fPIC", "-Wl,-soname,libssl.so")
    return built(folder, "program", PROGRAM, str(library), "-Wl,-rpath,$ORIGIN")


def run(program: Path, path: str, *, patient: bool) -> int:
    return subprocess.run([program, path, *(["patient"] if patient else [])], check=False).returncode


def paths(tracer: Tracer, expect: int) -> list[str]:
    return [path for _, path, _ in seen(tracer.rows(expect), "client")]


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the library that tells of changes is of x86_64 instructions"
)
def test_a_library_that_is_overwritten_in_place(tmp_path: Path) -> None:
    """It is let go of first, so that what runs it next finds its code as it is; then followed anew."""
    program = program_of(tmp_path)
    other = built(tmp_path / "other", "libssl.so", OTHER, "-shared", "-fPIC", "-Wl,-soname,libssl.so").read_bytes()
    with trace("--tls", "auto", "--exe", str(program)) as tracer:
        assert run(program, "/before", patient=True) == 0
        assert paths(tracer, 1) == ["/before"]
        with (tmp_path / "libssl.so").open("r+b") as file:
            file.truncate(0)
            file.write(other)
        assert run(program, "/at-once", patient=False) == 0
        time.sleep(2 * followed.SETTLE_S + 0.2)
        assert run(program, "/after", patient=True) == 0
        assert paths(tracer, 2)[-2:] == ["/after", "/before"]
        ledger = tracer.stop().ledger
    assert "1 times a file with a TLS library was let go of" in ledger


def breakpoints(process: subprocess.Popen[bytes], library: Path) -> int:
    """In how many places a process's code of a library is not the file's."""
    raw = library.read_bytes()
    different = 0
    with Path(f"/proc/{process.pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            words = line.split()
            if len(words) == 6 and words[5] == str(library) and "x" in words[1]:
                begin, end = (int(word, 16) for word in words[0].split("-"))
                memory.seek(begin)
                offset = int(words[2], 16)
                code = memory.read(end - begin)[: len(raw) - offset]
                different += sum(one != other for one, other in zip(code, raw[offset:], strict=False))
    return different


def test_other_processes_pay_nothing(tmp_path: Path) -> None:
    """With --pid there are breakpoints in that process alone."""
    library = program_of(tmp_path).parent / "libssl.so"
    waiting = built(tmp_path, "waiting", "int SSL_connect(void *); int main() { pause(); return SSL_connect(0); }",
                    str(library), f"-Wl,-rpath,{tmp_path}")  # fmt: skip
    with subprocess.Popen([waiting]) as asked, subprocess.Popen([waiting]) as other:
        time.sleep(0.3)
        with trace("--tls", "auto", "--pid", str(asked.pid)):
            assert breakpoints(asked, library) >= 3
            assert breakpoints(other, library) == 0
        asked.kill()
        other.kill()


FEW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
"""


def test_more_libraries_than_descriptors(tmp_path: Path) -> None:
    """What is not followed is counted, and ringspan goes on."""
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "sitecustomize.py").write_text(FEW)
    program_of(tmp_path / "first")
    programs = [Path(shutil.copytree(tmp_path / "first", tmp_path / str(number))) / "program" for number in range(300)]
    asked = [word for program in programs[-3:] for word in ("--exe", str(program))]
    with trace("--tls", "auto", *asked, run=How(paths=[str(tmp_path / "few")])) as tracer:
        for program in programs:
            run(program, "/one", patient=False)
        time.sleep(1)
        (attacher,) = children(tracer.pid, "ringspan.tls.attacher")
        assert len(list(Path(f"/proc/{attacher}/fd").iterdir())) < 1000
        ended = tracer.stop()
    assert "times a file with a TLS library was not followed (too many files)" in ended.ledger
    assert ended.status == 0


@contextmanager
def overlay(lower: Path, place: Path) -> Iterator[Path]:
    """A folder above another one, as a container has its image's."""
    for name in ("upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={place / 'upper'},workdir={place / 'work'}"
    merged = str(place / "merged")
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    try:
        yield place / "merged"
    finally:
        subprocess.run(["umount", "--lazy", merged], check=True)


def test_one_file_in_two_containers_is_told_once(tmp_path: Path) -> None:
    """Two overlays of one image: to the kernel their library is one file, which is attached to by two names."""
    program_of(tmp_path / "image")
    with overlay(tmp_path / "image", tmp_path / "one") as one, overlay(tmp_path / "image", tmp_path / "two") as two:
        programs = [one / "program", two / "program"]
        with trace("--tls", "auto", *(word for each in programs for word in ("--exe", str(each)))) as tracer:
            for turn in range(2):
                for program in programs:
                    assert run(program, f"/{program.parents[1].name}-{turn}", patient=True) == 0
            assert paths(tracer, 4) == ["/one-0", "/one-1", "/two-0", "/two-1"]
            assert "seen 4 = recorded 4" in tracer.stop().ledger
