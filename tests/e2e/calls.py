"""Every system call that moves bytes over a stream socket, sending or receiving, under one name each."""

from __future__ import annotations

import ctypes as ct
import os
import select
import socket
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .peer import PATIENCE_SECONDS, Peer, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class _Iovec(ct.Structure):
    _fields_ = (("base", ct.c_char_p), ("length", ct.c_size_t))


class _Message(ct.Structure):
    """A struct mmsghdr."""

    _fields_ = (
        ("name", ct.c_void_p),
        ("name_bytes", ct.c_uint),
        ("iov", ct.POINTER(_Iovec)),
        ("iov_count", ct.c_size_t),
        ("control", ct.c_void_p),
        ("control_bytes", ct.c_size_t),
        ("flags", ct.c_int),
        ("_pad", ct.c_int),
        ("bytes", ct.c_uint),
    )


LIBC = ct.CDLL(None, use_errno=True)
LIBC.splice.restype = ct.c_ssize_t


@contextmanager
def _file_of(pieces: Iterable[bytes]) -> Iterator[object]:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(pieces))
        file.seek(0)
        yield file


def _send_each(peer: Peer, pieces: list[bytes]) -> None:
    for piece in pieces:
        peer.sock.sendall(piece)


def _write_each(peer: Peer, pieces: list[bytes]) -> None:
    for piece in pieces:
        expect(os.write(peer.sock.fileno(), piece), len(piece))


def _sendmsg(peer: Peer, pieces: list[bytes]) -> None:
    expect(peer.sock.sendmsg(pieces), sum(map(len, pieces)))


def _writev(peer: Peer, pieces: list[bytes]) -> None:
    expect(os.writev(peer.sock.fileno(), pieces), sum(map(len, pieces)))


def messages_of(buffers: Sequence[tuple[object, int]]) -> ct.Array[_Message]:
    vectors = [_Iovec(ct.cast(buffer, ct.c_char_p), size) for buffer, size in buffers]  # type: ignore[arg-type]
    return (_Message * len(vectors))(*(_Message(iov=ct.pointer(vector), iov_count=1) for vector in vectors))


def _sendmmsg(peer: Peer, pieces: list[bytes]) -> None:
    messages = messages_of([(ct.create_string_buffer(piece, len(piece)), len(piece)) for piece in pieces])
    expect(LIBC.sendmmsg(peer.sock.fileno(), messages, len(pieces), 0), len(pieces))


def _send_nonblocking(peer: Peer, pieces: list[bytes]) -> None:
    """As an event loop does: until EAGAIN, then again once there is room."""
    left = memoryview(b"".join(pieces))
    peer.sock.setblocking(False)
    while left:
        with suppress(BlockingIOError):
            left = left[peer.sock.send(left) :]
            continue
        select.select([], [peer.sock], [], PATIENCE_SECONDS)
    peer.sock.setblocking(True)


def _sendfile(peer: Peer, pieces: list[bytes]) -> None:
    with _file_of(pieces) as file:
        peer.sock.sendfile(file)


def _splice_out(peer: Peer, pieces: list[bytes]) -> None:
    source, sink = os.pipe()
    for piece in pieces:
        expect(os.write(sink, piece), len(piece))
        expect(os.splice(source, peer.sock.fileno(), len(piece)), len(piece))
    os.close(source)
    os.close(sink)


SENDERS: dict[str, Callable[[Peer, list[bytes]], None]] = {
    "send": _send_each,
    "write": _write_each,
    "sendmsg": _sendmsg,
    "writev": _writev,
    "sendmmsg": _sendmmsg,
    "nonblocking": _send_nonblocking,
    "sendfile": _sendfile,
    "splice": _splice_out,
}


def _recv(sock: socket.socket, size: int) -> int:
    return len(sock.recv(size))


def _read(sock: socket.socket, size: int) -> int:
    return len(os.read(sock.fileno(), size))


def _recvmsg(sock: socket.socket, size: int) -> int:
    return len(sock.recvmsg(size)[0])


def _readv(sock: socket.socket, size: int) -> int:
    """Into buffers of 7 bytes, then one for the rest."""
    small = [bytearray(7) for _ in range(min(size // 7, 20))]
    rest = size - 7 * len(small)
    return os.readv(sock.fileno(), [*small, bytearray(rest)] if rest else small)


def _peek_then_recv(sock: socket.socket, size: int) -> int:
    sock.recv(size, socket.MSG_PEEK)
    return len(sock.recv(size))


def _discard(sock: socket.socket, size: int) -> int:
    """On TCP, MSG_TRUNC consumes and copies nothing."""
    return LIBC.recv(sock.fileno(), None, size, socket.MSG_TRUNC)


def _recvmmsg(sock: socket.socket, size: int) -> int:
    """In up to two messages of half the size."""
    sizes = [size - size // 2, size // 2] if size > 1 else [size]
    messages = messages_of([(ct.create_string_buffer(part), part) for part in sizes])
    count = LIBC.recvmmsg(sock.fileno(), messages, len(sizes), 0x10000, None)  # MSG_WAITFORONE
    return sum(messages[i].bytes for i in range(count))


def _splice_in(sock: socket.socket, size: int) -> int:
    source, sink = os.pipe()
    moved = os.splice(sock.fileno(), sink, size)
    os.close(source)
    os.close(sink)
    return moved


RECEIVERS: dict[str, Callable[[socket.socket, int], int]] = {
    "recv": _recv,
    "read": _read,
    "recvmsg": _recvmsg,
    "readv": _readv,
    "peek": _peek_then_recv,
    "discard": _discard,
    "recvmmsg": _recvmmsg,
    "splice": _splice_in,
}
