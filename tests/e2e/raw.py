"""Scripted peers on raw sockets: a script is a list of steps, one list for the client and one for the server.

A step is a function of the peer that takes it. `@PORT` in what is sent becomes the listener's port: five digits, so
that lengths stay as written.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .calls import RECEIVERS, SENDERS
from .peer import FAMILIES, PATIENCE_SECONDS, Peer, Place, Script, ScriptError, Step, Talk, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


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


def recv(size: int, most: int = 1 << 20, by: str = "recv") -> Step:
    """Receives exactly so many bytes, at the most `most` in a call, by one of RECEIVERS."""

    def step(peer: Peer) -> None:
        left = size
        while left:
            got = RECEIVERS[by](peer.sock, min(left, most))
            if got <= 0:
                raise ScriptError(f"{left} of {size} bytes did not come")
            left -= got

    return step


def recv_end(peer: Peer) -> None:
    """Receives the end of the stream."""
    rest = peer.sock.recv(100)
    if rest:
        raise ScriptError(f"the end of the stream was expected, not {rest!r}")


def recv_any_end(peer: Peer) -> None:
    """Receives until the connection has ended, well or not."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while peer.sock.recv(1 << 16):
            pass


def recv_reset(peer: Peer) -> None:
    """Receives until the connection is reset."""
    with suppress(ConnectionResetError, BrokenPipeError):
        while peer.sock.recv(1 << 16):
            pass
        raise ScriptError("a reset was expected, not the end of the stream")


# --- the connection -------------------------------------------------------------------------------


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
            raise ScriptError(f"nobody told {name!r}")

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
        raise ScriptError(f"a child ended with {status}")


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


# --- playing --------------------------------------------------------------------------------------


def be_patient(sock: socket.socket) -> None:
    """Bounds what a blocking call waits for, with no help of poll()."""
    limit = struct.pack("ll", PATIENCE_SECONDS, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


@contextmanager
def listening(place: Place, backlog: int = 128, protocol: int = 0) -> Iterator[socket.socket]:
    with socket.socket(FAMILIES[place.family], proto=protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place.address)
        listener.listen(backlog)
        be_patient(listener)
        yield listener
    if place.path and place.path[0] != "\0":
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
