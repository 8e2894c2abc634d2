"""Calls of a TLS library other than one after the other: of two threads, gone on with, within another library's."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .test_tls_files import built
from .tls_peers import assert_nothing_lost, seen
from .tracer import trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .stage import Ports
    from .tracer import Ended, Row

pytestmark = pytest.mark.root
RECORD = b"\x17\x03\x03\0\x01x"
# A library that ciphers nothing, and answers the nth request with status 200 + n. A session is the socket to move a record
# on for each call, if any. Of two threads: the send of request LATE returns after its answer has been received.
GNUTLS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static volatile int asked, answered;
static long kept;
static void move(int *session, int type)
{
	char record[6] = {type, 3, 3, 0, 1}, got[6];

	if (*session && (write(*session, record, 6) != 6 || read(*session, got, 6) != 6))
		exit(4);
}
static int is_named(const char *name, int number) { return getenv(name) && atoi(getenv(name)) == number; }
int gnutls_handshake(int *session) { move(session, 22); return 0; }
long gnutls_record_send(int *session, const void *from, unsigned long bytes)
{
	long moved = bytes ? bytes : kept;

	kept = 0;
	if (bytes && memmem(from, bytes, "BODY", 4) && getenv("INTERRUPTED")) {
		kept = bytes;
		return -28; /* GNUTLS_E_AGAIN */
	}
	move(session, 23);
	if (!memmem(from, bytes, "Content-Length", bytes ? 14 : 1))
		asked++;
	if (is_named("LATE", asked) || is_named("LATE", -1))
		usleep(50000);
	return moved;
}
long other_send(int *session, const void *from, unsigned long bytes) { asked++; return bytes; }
long gnutls_record_recv(int *session, void *to, unsigned long room)
{
	while (answered == asked)
		usleep(1000);
	return sprintf(to, "HTTP/1.1 20%d OK\\r\\nContent-Length: 0\\r\\n\\r\\n", ++answered);
}
"""
# ... one that wraps it: its sessions are other objects.
OPENSSL = """
long gnutls_record_send(int *session, const void *from, unsigned long bytes);
long gnutls_record_recv(int *session, void *to, unsigned long room);
int gnutls_handshake(int *session);
struct ssl { int *session; volatile int last; };
int SSL_connect(struct ssl *ssl) { ssl->last = gnutls_handshake(ssl->session); return 1; }
int SSL_write(struct ssl *ssl, const void *from, int bytes)
{
	ssl->last = gnutls_record_send(ssl->session, from, bytes);
	return ssl->last;
}
int SSL_read(struct ssl *ssl, void *to, int room)
{
	ssl->last = gnutls_record_recv(ssl->session, to, room);
	return ssl->last;
}
"""
# PORT (0: the session stays in memory) HOW
PROGRAM = """
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int gnutls_handshake(int *session);
long gnutls_record_send(int *session, const void *from, unsigned long bytes);
long gnutls_record_recv(int *session, void *to, unsigned long room);
long other_send(int *session, const void *from, unsigned long bytes);
struct ssl { int *session; volatile int last; };
int SSL_connect(struct ssl *ssl);
int SSL_write(struct ssl *ssl, const void *from, int bytes);
int SSL_read(struct ssl *ssl, void *to, int room);
#define TURNS 5
static int session[16];
static struct ssl wrapper = {session};
static volatile int got, quiet;
static const char *how;
static void put(const char *text)
{
	long sent = gnutls_record_send(session, text, strlen(text));

	while (sent == -28)
		sent = gnutls_record_send(session, 0, 0);
}
static void ask(int n)
{
	static char text[256];

	sprintf(text, "GET /%d HTTP/1.1\\r\\nHost: there\\r\\n\\r\\n", n);
	if (!strcmp(how, "wrapped"))
		SSL_write(&wrapper, text, strlen(text));
	else if (!strcmp(how, "unseen") && n == 1)
		other_send(session, text, strlen(text));
	else if (!strcmp(how, "interrupted") && n == 2) {
		put("POST /2 HTTP/1.1\\r\\nHost: there\\r\\nContent-Length: 50\\r\\n\\r\\n");
		put("BODY56789 123456789 123456789 123456789 123456789 ");
	} else
		gnutls_record_send(session, text, strlen(text));
}
static void receive(void)
{
	char answer[256];

	if (!strcmp(how, "wrapped"))
		SSL_read(&wrapper, answer, sizeof(answer));
	else
		gnutls_record_recv(session, answer, sizeof(answer));
	got++;
}
static void *receive_all(void *unused)
{
	for (int n = 0; n < TURNS; n++)
		receive();
	return 0;
}
static void open_socket(int port)
{
	struct sockaddr_in to = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}};

	*session = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*session, (void *)&to, sizeof(to)))
		exit(2);
}
int main(int count, char **words)
{
	int threads = !strcmp(how = words[2], "threads");
	pthread_t reader;

	usleep(500000); /* who looks for new libraries has found these then */
	if (atoi(words[1]))
		open_socket(atoi(words[1]));
	if (strcmp(how, "wrapped"))
		gnutls_handshake(session);
	else
		SSL_connect(&wrapper);
	if (threads)
		pthread_create(&reader, 0, receive_all, 0);
	for (int n = 1; n <= TURNS; n++) {
		ask(n);
		if (!threads)
			receive();
		while (got < n)
			usleep(1000);
		usleep(150000); /* so long that sync may be found again */
	}
	if (threads)
		pthread_join(reader, 0);
	return 0;
}
"""
EVERY = [("GET", f"/{n}", 200 + n) for n in range(1, 6)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libraries")
    flags = ("-D_GNU_SOURCE", "-Wl,-rpath,$ORIGIN", "-fno-optimize-sibling-calls", "-lpthread")
    library = ("-shared", "-fPIC", *flags)
    inner = built(folder, "libgnutls.so", GNUTLS, *library, "-Wl,-soname,libgnutls.so")
    outer = built(folder, "libssl.so", OPENSSL, str(inner), *library, "-Wl,-soname,libssl.so")
    return built(folder, "program", PROGRAM, str(outer), str(inner), *flags)


@contextmanager
def echo(port: int) -> Iterator[None]:
    """Answer each record with one, on one connection."""

    def serve() -> None:
        with listener.accept()[0] as peer:
            while peer.recv(6):
                peer.sendall(RECORD)

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def run(program: Path, port: int, how: str, **environment: str) -> tuple[list[Row], Ended]:
    """Trace the program; the rows of it, and how the tracer has ended."""
    with trace("--tls", "auto", "--exe", str(program)) as tracer:
        command = [str(program), str(port), how]
        if port:
            with echo(port):
                subprocess.run(command, check=True, timeout=30, env=os.environ | environment)
        else:
            subprocess.run(command, check=True, timeout=30, env=os.environ | environment)
        return tracer.rows(len(EVERY), timeout=3), tracer.stop()


@pytest.mark.parametrize("late", ["1", "-1"])
@pytest.mark.parametrize("place", ["memory", "socket"])
def test_two_threads(program: Path, ports: Ports, place: str, late: str) -> None:
    """One receives the answer before the other one's send has returned: of one request, or of all."""
    rows, ended = run(program, 0 if place == "memory" else ports.take(), "threads", LATE=late)
    assert seen(rows, "client") == EVERY
    assert_nothing_lost(ended.ledger, len(EVERY))


def test_a_request_that_was_sent_unseen(program: Path) -> None:
    """Its answer, the first to be seen, tells so, and is nobody else's."""
    rows, ended = run(program, 0, "unseen")
    assert seen(rows, "client") == EVERY[1:]
    assert "1 responses to no request seen" in ended.ledger


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_send_that_is_gone_on_with(program: Path, interrupted: bool) -> None:
    """(NULL, 0) goes on with what GnuTLS has kept of an interrupted send: that request is lost, and no other."""
    rows, ended = run(program, 0, "interrupted", **({"INTERRUPTED": "yes"} if interrupted else {}))
    whole = sorted([*EVERY[:1], ("POST", "/2", 202), *EVERY[2:]])
    assert seen(rows, "client") == ([row for row in whole if row[0] == "GET"] if interrupted else whole)
    assert ("lost (desync) 1" in ended.ledger) == interrupted


@pytest.mark.parametrize("place", ["memory", "socket"])
def test_a_library_that_wraps_another(program: Path, ports: Ports, place: str) -> None:
    """It knows its sessions by objects of its own; what passes through both is told once, and by its socket."""
    port = 0 if place == "memory" else ports.take()
    rows, ended = run(program, port, "wrapped")
    assert seen(rows, "client") == EVERY
    assert_nothing_lost(ended.ledger, len(EVERY))
    if port:
        assert {row["attributes"]["network.peer.port"] for row in rows} == {port}
        assert "seen 1 = shown 1 +" in ended.ledger, ended.ledger
