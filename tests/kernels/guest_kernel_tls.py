"""Runs in a guest: HTTP on sockets for which the kernel encrypts is not seen, and nothing else is told instead."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from pathlib import Path

from e2e.numbered import exchange, read
from e2e.tracer import CAPTURE, SLOWNESS, trace

PORT, ROUNDS = 15200, 5
HELLO = b"\x16\x03\x01\x00\x05hello"
MODULES = ("tls", "gcm", "ctr", "ghash-generic")
# include/uapi/linux/tls.h
TCP_ULP, SOL_TLS, TLS_TX, TLS_RX, TLS_1_2, AES_GCM_128 = 31, 282, 1, 2, 0x0303, 51


def shake_hands(client: socket.socket, server: socket.socket) -> None:
    """As far as others see: an application does that itself, before the kernel goes on."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(HELLO)
        read(receiver, len(HELLO))


def encrypt(end: socket.socket) -> None:
    """Have the kernel do TLS from now on, with keys that both ends have."""
    end.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    info = struct.pack("=HH8s16s4s8s", TLS_1_2, AES_GCM_128, b"i" * 8, b"k" * 16, b"salt", b"\0" * 8)
    for way in (TLS_TX, TLS_RX):
        end.setsockopt(SOL_TLS, way, info)


def encrypted_for() -> int:
    found = re.search(r"^TlsTxSw\s+(\d+)", Path("/proc/net/tls_stat").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_kernel_tls_is_not_told_as_anything_else() -> None:
    subprocess.run(["modprobe", "-a", *MODULES], check=True)  # whose root is not the kernel's: it loads none by itself
    before = encrypted_for()
    with trace("--port", str(PORT)) as tracer:
        assert CAPTURE in tracer.ready_line()
        with socket.create_server(("127.0.0.1", PORT)) as listening:
            for encrypted in (True, False):
                client = socket.create_connection(("127.0.0.1", PORT))
                server, _ = listening.accept()
                with client, server:
                    if encrypted:
                        shake_hands(client, server)
                        encrypt(client)
                        encrypt(server)
                    for number in range(ROUNDS):
                        exchange(client, server, number)
        rows = tracer.rows(2 * ROUNDS, timeout=3 * SLOWNESS)
        ledger = tracer.stop().ledger
    assert encrypted_for() == before + 2
    numbers = list(range(ROUNDS))
    for kind in ("client", "server"):
        assert [row["response_body_bytes"] for row in rows if row["kind"] == kind] == numbers, ledger
