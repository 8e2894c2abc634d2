"""A 32-bit caller's calls are not taken for 64-bit ones that bear the same numbers; they are counted."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.conftest import missing
from e2e.tracer import trace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86's"),
    pytest.mark.skipif(not shutil.which("cc"), reason="no cc"),
]
CALLS = 50
SOURCE = """
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* write(2) by the 32-bit entry of a 64-bit kernel: number 4, arguments in ebx, ecx, edx */
static long write32(int fd, const void *buf, unsigned n)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(4), "b"(fd), "c"(buf), "d"(n) : "memory");
	return result;
}

int main(void)
{
	static const char request[] = "GET / HTTP/1.1\\r\\n\\r\\n";
	int ends[2], i;
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || low == MAP_FAILED)
		return 1;
	memcpy(low, request, sizeof(request));
	for (i = 0; i < CALLS; i++)
		if (write32(ends[0], low, sizeof(request) - 1) != sizeof(request) - 1)
			return 2;
	return 0;
}
"""


def test_32bit_calls_are_counted(tmp_path: Path) -> None:
    source, program = tmp_path / "calls.c", tmp_path / "calls"
    source.write_text(SOURCE)
    subprocess.run(["cc", f"-DCALLS={CALLS}", "-o", program, source], check=True)
    with trace("--exe", str(program)) as tracer:
        done = subprocess.run([program], check=False)
        if done.returncode:
            pytest.skip("this kernel has no 32-bit entry (int 0x80)")
        ended = tracer.stop()
        assert tracer.all_rows() == []
    assert int(re.search(r"(\d+) calls of 32-bit processes", ended.ledger)[1]) >= CALLS
