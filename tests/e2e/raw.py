"""Scripted peers on raw sockets: a script is a list of steps, one list for the client and one for the server.

A step is a function of the peer that takes it. `@PORT` in what is sent becomes the listener's port: five digits, so that
lengths stay as written.
"""

from __future__ import annotations

import ctypes as ct
import os
import select
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PORT = b"@PORT"
PATIENCE_SECONDS = 15
FAMILIES = {"v4": socket.AF_INET, "v6": socket.AF_INET6, "unix": socket.AF_UNIX}
LOOPBACK = {"v4": "127.0.0.1", "v6": "::1"}


class ScriptFailed(Exception):
    """A peer met something that its script did not foresee."""


@dataclass
class Place:
    """Where the server of a script listens; and what its peers share."""

    family: str = "v4"
    port: int = 0
    path: str = ""
    signals: dict[str, threading.Event] = field(default_factory=dict)
    children: list[int] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int] | str:
        return self.path or (LOOPBACK[self.family], self.port)

    def signal(self, name: str) -> threading.Event:
        return self.signals.setdefault(name, threading.Event())


@dataclass
class Peer:
    """One end of a connection."""

    sock: socket.socket
    place: Place


Step = Callable[[Peer], None]
Script = Sequence[Step]


@dataclass(frozen=True)
class Talk:
    """One connection: what each side does, in order; then each closes."""

    client: Script
    server: Script


# --- sending -----------------------------------------------------------------------------------------------------------


class _Iovec(ct.Structure):
    _fields_ = (("base", ct.c_char_p), ("length", ct.c_size_t))


class _Message(ct.Structure):
    _fields_ = (
        ("name", ct.c_void_p), ("name_bytes", ct.c_uint), ("iov", ct.POINTER(_Iovec)), ("iov_count", ct.c_size_t),
        ("control", ct.c_void_p), ("control_bytes", ct.c_size_t), ("flags", ct.c_int), ("_pad", ct.c_int), ("bytes", ct.c_uint),
    )  # fmt: skip


LIBC = ct.CDLL(None, use_errno=True)
LIBC.splice.restype = ct.c_ssize_t


def fill(pieces: Iterable[bytes], place: Place) -> list[bytes]:
    """The pieces with the port in place, cut where they were."""
    kept = list(pieces)
    text, out = b"".join(kept).replace(PORT, b"%05d" % place.port), []
    for piece in kept:
        out.append(text[: len(piece)])
        text = text[len(piece) :]
    return out


def _send_each(peer: Peer, pieces: list[bytes]) -> None:
    for piece in pieces:
        peer.sock.sendall(piece)


def _write_each(peer: Peer, pieces: list[bytes]) -> None:
    for piece in pieces:
        _expect(os.write(peer.sock.fileno(), piece), len(piece))


def _sendmsg(peer: Peer, pieces: list[bytes]) -> None:
    _expect(peer.sock.sendmsg(pieces), sum(map(len, pieces)))


def _writev(peer: Peer, pieces: list[bytes]) -> None:
    _expect(os.writev(peer.sock.fileno(), pieces), sum(map(len, pieces)))


def _messages(buffers: Sequence[tuple[object, int]]) -> ct.Array[_Message]:
    vectors = [_Iovec(ct.cast(buffer, ct.c_char_p), size) for buffer, size in buffers]  # type: ignore[arg-type]
    return (_Message * len(vectors))(*(_Message(iov=ct.pointer(vector), iov_count=1) for vector in vectors))


def _sendmmsg(peer: Peer, pieces: list[bytes]) -> None:
    messages = _messages([(ct.create_string_buffer(piece, len(piece)), len(piece)) for piece in pieces])
    _expect(LIBC.sendmmsg(peer.sock.fileno(), messages, len(pieces), 0), len(pieces))


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
        _expect(os.write(sink, piece), len(piece))
        _expect(os.splice(source, peer.sock.fileno(), len(piece)), len(piece))
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


def send(*pieces: bytes, by: str = "send") -> Step:
    """Sends the pieces by one of SENDERS: `send` takes a call for each, the vectored ones one for all."""
    return lambda peer: SENDERS[by](peer, fill(pieces, peer.place))


def send_slowly(pieces: Sequence[bytes], seconds: float) -> Step:
    """Sends a piece each so many seconds."""

    def step(peer: Peer) -> None:
        for piece in fill(pieces, peer.place):
            peer.sock.sendall(piece)
            time.sleep(seconds)

    return step


@contextmanager
def _file_of(pieces: Iterable[bytes]) -> Iterator[object]:
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(pieces))
        file.seek(0)
        yield file


# --- receiving ---------------------------------------------------------------------------------------------------------


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
    messages = _messages([(ct.create_string_buffer(part), part) for part in sizes])
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


def recv(size: int, most: int = 1 << 20, by: str = "recv") -> Step:
    """Receives exactly so many bytes, at the most `most` in a call, by one of RECEIVERS."""

    def step(peer: Peer) -> None:
        left = size
        while left:
            got = RECEIVERS[by](peer.sock, min(left, most))
            if got <= 0:
                raise ScriptFailed(f"{left} of {size} bytes did not come")
            left -= got

    return step


def recv_end(peer: Peer) -> None:
    """Receives the end of the stream."""
    rest = peer.sock.recv(100)
    if rest:
        raise ScriptFailed(f"the end of the stream was expected, not {rest!r}")


def recv_reset(peer: Peer) -> None:
    """Receives until the connection is reset."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while peer.sock.recv(1 << 16):
            pass
        raise ScriptFailed("a reset was expected, not the end of the stream")


# --- the connection ----------------------------------------------------------------------------------------------------


def half_close(peer: Peer) -> None:
    peer.sock.shutdown(socket.SHUT_WR)


def close(peer: Peer) -> None:
    peer.sock.close()


def reset(peer: Peer) -> None:
    """Closes with a RST."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def duplicate(peer: Peer) -> None:
    """Goes on with a duplicate of the descriptor, and closes the first."""
    first, peer.sock = peer.sock, peer.sock.dup()
    first.close()


def pause(seconds: float) -> Step:
    return lambda _peer: time.sleep(seconds)


def tell(name: str) -> Step:
    return lambda peer: peer.place.signal(name).set()


def await_told(name: str) -> Step:
    def step(peer: Peer) -> None:
        if not peer.place.signal(name).wait(PATIENCE_SECONDS):
            raise ScriptFailed(f"nobody told {name!r}")

    return step


def _in_fork(peer: Peer, work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        peer.place.children.append(pid)
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def _await_child(pid: int) -> None:
    """It ends well, or was killed as its script says."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise ScriptFailed(f"a child ended with {status}")


def die(_peer: Peer) -> None:
    """Has this process killed: for a child's script."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(*steps: Step) -> Step:
    """Takes the steps in a forked child, which inherits the socket."""
    return lambda peer: _await_child(_in_fork(peer, lambda: take(peer, steps)))


def handed_over(*steps: Step) -> Step:
    """Takes the steps in another process, which is sent the socket by SCM_RIGHTS."""

    def step(peer: Peer) -> None:
        ours, theirs = socket.socketpair()

        def work() -> None:
            peer.sock.close()
            peer.sock = socket.socket(fileno=socket.recv_fds(theirs, 1, 1)[1][0])
            take(peer, steps)

        pid = _in_fork(peer, work)
        socket.send_fds(ours, [b"!"], [peer.sock.fileno()])
        peer.sock.close()
        _await_child(pid)
        ours.close()
        theirs.close()

    return step


# --- playing -----------------------------------------------------------------------------------------------------------


def _expect(got: int, wanted: int) -> None:
    if got != wanted:
        raise ScriptFailed(f"{wanted} was expected, not {got}")


def be_patient(sock: socket.socket) -> None:
    """Bounds what a blocking call waits for, with no help of poll()."""
    limit = struct.pack("ll", PATIENCE_SECONDS, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


@contextmanager
def listening(place: Place, backlog: int = 128) -> Iterator[socket.socket]:
    with socket.socket(FAMILIES[place.family]) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place.address)
        listener.listen(backlog)
        be_patient(listener)
        yield listener
    if place.path:
        Path(place.path).unlink()


def connected(place: Place) -> Peer:
    sock = socket.socket(FAMILIES[place.family])
    be_patient(sock)
    sock.connect(place.address)
    return Peer(sock, place)


def accepted(listener: socket.socket, place: Place) -> Peer:
    sock, _ = listener.accept()
    sock.setblocking(True)
    be_patient(sock)
    return Peer(sock, place)


def take(peer: Peer, steps: Script) -> None:
    for step in steps:
        step(peer)


def together(*works: Callable[[], None]) -> None:
    """Runs each on a thread of its own; raises the first error."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE_SECONDS)
    if errors:
        raise errors[0]


def run_side(start: Callable[[], Peer], steps: Script) -> Callable[[], None]:
    def work() -> None:
        peer = start()
        try:
            take(peer, steps)
        finally:
            peer.sock.close()

    return work


def play(place: Place, talks: Iterable[Talk]) -> None:
    """Plays the connections one after the other."""
    with listening(place) as listener:
        for talk in talks:
            together(
                run_side(lambda: accepted(listener, place), talk.server),
                run_side(lambda: connected(place), talk.client),
            )
