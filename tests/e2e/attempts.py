"""Connection attempts that fail, one function for each way to fail."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .peer import FAMILIES, LOOPBACK, PATIENCE_SECONDS, Peer, Place, ScriptError
from .raw import be_patient, connected, listening

Attempt = Callable[[Place], None]
NAMESPACE = f"ringspan-test-{os.getpid()}"
NO_ROUTE = "10.99.0.1"  # in a namespace with no default route
UNREACHABLE, PROHIBITED, UNREACHABLE_V6 = "10.98.0.1", "10.97.0.1", "fd98::1"


def _must_be(error: int, wanted: int) -> None:
    if error != wanted:
        raise ScriptError(f"connect: {errno.errorcode.get(error, error)}, not {errno.errorcode[wanted]}")


def blocking(wanted: int, times: int = 1) -> Attempt:
    """connect(), so many times on one socket."""

    def attempt(place: Place) -> None:
        with socket.socket(FAMILIES[place.family]) as sock:
            be_patient(sock)
            for _ in range(times):
                _must_be(sock.connect_ex(place.address), wanted)

    return attempt


def _begin(place: Place) -> socket.socket:
    sock = socket.socket(FAMILIES[place.family])
    sock.setblocking(False)
    _must_be(sock.connect_ex(place.address), errno.EINPROGRESS)
    return sock


def nonblocking_refused(place: Place) -> None:
    """As an event loop does: wait until writable, then ask for SO_ERROR."""
    with _begin(place) as sock:
        select.select([], [sock], [], PATIENCE_SECONDS)
        _must_be(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ECONNREFUSED)


def polled_by_connect(place: Place) -> None:
    """A second connect() tells how the first went."""
    with _begin(place) as sock:
        select.select([], [sock], [], PATIENCE_SECONDS)
        _must_be(sock.connect_ex(place.address), errno.ECONNREFUSED)


def connected_by_polling(place: Place) -> Peer:
    """A connection made by a nonblocking connect(), and further ones until it is there."""
    sock = _begin(place)
    while sock.connect_ex(place.address) not in (0, errno.EISCONN):
        time.sleep(0.001)
    sock.setblocking(True)
    be_patient(sock)
    return Peer(sock, place)


def polled_while_pending(place: Place) -> None:
    """Many a connect() while the first is under way, then given up."""
    with full(place), _begin(place) as sock:
        for _ in range(5):
            _must_be(sock.connect_ex(place.address), errno.EALREADY)
            time.sleep(0.01)


@contextmanager
def full(place: Place) -> Iterator[None]:
    """A server whose queue is full, so that the kernel drops further SYNs."""
    with listening(place, backlog=0), connected(place).sock:
        yield


def given_up_after(seconds: float) -> Attempt:
    def attempt(place: Place) -> None:
        with full(place), _begin(place):
            time.sleep(seconds)

    return attempt


def blocking_with_send_timeout(place: Place) -> None:
    """SO_SNDTIMEO bounds a blocking connect()."""
    with full(place), socket.socket(FAMILIES[place.family]) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100_000))
        _must_be(sock.connect_ex(place.address), errno.EINPROGRESS)


def kernel_gives_up(place: Place) -> None:
    with full(place), socket.socket(FAMILIES[place.family]) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        _must_be(sock.connect_ex(place.address), errno.ETIMEDOUT)


def kernel_gives_up_nonblocking(place: Place) -> None:
    with full(place), socket.socket(FAMILIES[place.family]) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        sock.setblocking(False)
        _must_be(sock.connect_ex(place.address), errno.EINPROGRESS)
        select.select([], [sock], [], PATIENCE_SECONDS)
        _must_be(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), errno.ETIMEDOUT)


def killed_while_connecting(place: Place) -> None:
    with full(place):
        pid = os.fork()
        if not pid:
            with suppress(OSError):
                blocking(0)(place)
            os._exit(1)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def same_addresses_twice(place: Place) -> None:
    """A second connection of the same four addresses."""
    with (
        listening(place),
        socket.socket(FAMILIES[place.family]) as first,
        socket.socket(FAMILIES[place.family]) as second,
    ):
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind((LOOPBACK[place.family], 0))
        second.bind(first.getsockname())
        first.connect(place.address)
        _must_be(second.connect_ex(place.address), errno.EADDRNOTAVAIL)


def unix_queue_full(place: Place) -> None:
    with full(place), socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        _must_be(sock.connect_ex(place.address), errno.EAGAIN)


def unix_stale(place: Place) -> None:
    """The socket's file is left, its server is gone."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(place.address)
    blocking(errno.ECONNREFUSED)(place)


def datagram(place: Place) -> None:
    """UDP connects too, and fails too; this is not it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(place.address)
        for _ in range(2):
            with suppress(ConnectionRefusedError):
                sock.send(b"GET / HTTP/1.1\r\n\r\n")


def disconnected(place: Place) -> None:
    """connect() to AF_UNSPEC goes nowhere: no attempt."""
    import ctypes  # noqa: PLC0415

    with socket.socket() as sock:
        ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)


# --- in a network namespace -----------------------------------------------------------------------

CONNECT = """
import errno, socket, sys
family, host, port, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
got = socket.socket(family).connect_ex((host, port))
sys.exit(0 if got == wanted else f"connect: {errno.errorcode.get(got, got)}")
"""
EXHAUST = """
import errno, socket, sys
host, port, wanted = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("50001 50001")
server = socket.create_server((host, port))
first = socket.create_connection((host, port))
got = socket.socket().connect_ex((host, port))
sys.exit(0 if got == wanted else f"connect: {errno.errorcode.get(got, got)}")
"""


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


@contextmanager
def namespace() -> Iterator[None]:
    """A network namespace with some routes that lead nowhere."""
    _ip("netns", "add", NAMESPACE)
    try:
        _ip("-n", NAMESPACE, "link", "set", "lo", "up")
        _ip("-n", NAMESPACE, "route", "add", "unreachable", f"{UNREACHABLE}/32")
        _ip("-n", NAMESPACE, "route", "add", "prohibit", f"{PROHIBITED}/32")
        _ip("-n", NAMESPACE, "-6", "route", "add", "unreachable", f"{UNREACHABLE_V6}/128")
        yield
    finally:
        _ip("netns", "delete", NAMESPACE)


def in_namespace(host: str, wanted: int, script: str = CONNECT) -> Attempt:
    def attempt(place: Place) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        args = [sys.executable, "-c", script, str(int(family)), host, str(place.port), str(wanted)]
        done = subprocess.run(
            ["ip", "netns", "exec", NAMESPACE, *args], check=False, capture_output=True, text=True, timeout=30
        )
        if done.returncode:
            raise ScriptError(done.stderr)

    return attempt


def has_ip() -> bool:
    return any(Path(folder, "ip").exists() for folder in os.environ.get("PATH", "").split(os.pathsep))
