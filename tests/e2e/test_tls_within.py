"""Functions that a TLS library does by others of its own: what these move is told once."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from .test_tls_files import built
from .tls_peers import seen
from .tracer import trace

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.root
# As GnuTLS does: what is sent while corked is said to be sent, and sent again by the same function as it is uncorked.
LIBRARY = """
#include <string.h>
static const char answer[] = "HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n";
static char kept[1024];
static long count;
int gnutls_handshake(void *session) { return 0; }
long gnutls_record_send(void *session, const void *from, unsigned long bytes)
{
	if (from != kept) {
		memcpy(kept + count, from, bytes);
		count += bytes;
	}
	return bytes;
}
int gnutls_record_uncork(void *session, unsigned wait)
{
	long sent = gnutls_record_send(session, kept, count);

	count = 0;
	return sent;
}
long gnutls_record_recv(void *session, void *to, unsigned long bytes)
{
	memcpy(to, answer, sizeof(answer) - 1);
	return sizeof(answer) - 1;
}
"""
PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int gnutls_handshake(void *);
long gnutls_record_send(void *, const void *, unsigned long);
int gnutls_record_uncork(void *, unsigned);
long gnutls_record_recv(void *, void *, unsigned long);
int main(void)
{
	char request[256], got[256];
	int i;

	usleep(500000); /* who looks for new libraries has found this one then */
	gnutls_handshake(got);
	for (i = 0; i < 3; i++) {
		snprintf(request, sizeof(request), "GET /corked-%d HTTP/1.1\\r\\nHost: there\\r\\n\\r\\n", i);
		gnutls_record_send(got, request, 10);
		gnutls_record_send(got, request + 10, strlen(request) - 10);
		gnutls_record_uncork(got, 1);
		gnutls_record_recv(got, got + 16, sizeof(got) - 16);
	}
	return 0;
}
"""


def test_what_is_corked_is_told_once(tmp_path: Path) -> None:
    library = built(tmp_path, "libgnutls.so", LIBRARY, "-shared", "-fPIC", "-Wl,-soname,libgnutls.so")
    program = built(tmp_path, "program", PROGRAM, str(library), "-Wl,-rpath,$ORIGIN")
    with trace("--tls", "auto", "--exe", str(program)) as tracer:
        subprocess.run([program], check=True)
        assert seen(tracer.rows(3), "client") == [("GET", f"/corked-{n}", 200) for n in range(3)]
        assert "seen 3 = recorded 3" in tracer.stop().ledger
