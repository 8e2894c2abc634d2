"""The short-lived process that holds BCC and LLVM: compiles, loads, attaches, hands the descriptors over, and goes.

Run as `python -m ringspan.probe.child SOCKET_FD PARENT_PID`; the settings come by the socket, as JSON. Its last
message there is JSON, with the descriptors of maps, links and programs beside it; on failure, reason and remedy.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringspan.errors import CannotTrace, RingspanError
from ringspan.probe import captures, tree
from ringspan.probe.attach import Attacher, obstacle
from ringspan.probe.captures import Capture
from ringspan.probe.compiler import compile_capture, die_with_parent, import_bcc
from ringspan.probe.settings import EXECUTABLES_MAX, ProbeSettings
from ringspan.protocols import http1

HANDED_OVER = [
    "records",
    "births",
    "counters",
    "connections",
    "exchanges",
    "judged_executables",
    "attempts",
]
HANDED_OVER_TLS = ["tls_sessions", "tls_held", "tls_calls", "tls_stacks", "go_calls", "calls"]

MESSAGE_BYTES = 1 << 16
APPROVED = b"+"
DESCRIPTORS = 200  # of one message: SCM_MAX_FD of net/scm.h is 253


@dataclass(frozen=True)
class Attached:
    """A capture that is at work, and why it is not one that is preferred to it."""

    capture: Capture
    program: Any
    attacher: Attacher
    links: dict[str, int]
    obstacles: list[str]


def attach_first(bcc: Any, settings: ProbeSettings, approve: Callable[[Any], None]) -> Attached:
    """Attach the first capture asked for that the kernel allows; raises CannotTrace.

    `approve` is given each compiled program before any of it is attached.
    """
    obstacles: list[str] = []
    asked = captures.BY_WORD[settings.capture]
    for capture in asked:
        reason = obstacle(capture)
        try:
            if not reason:
                compiled = compile_capture(bcc, settings, capture)
                approve(compiled.program)
                fill_maps(compiled.program, settings)
                attacher = Attacher(compiled, capture, tls=settings.follow_tls)
                attacher.load()
                return Attached(capture, compiled.program, attacher, attacher.attach(), obstacles)
        except CannotTrace as error:
            if capture is asked[-1]:
                raise
            reason = error.reason
        obstacles.append(f"{capture.how}: {reason}")
    raise CannotTrace(
        f"capture {settings.capture} is not possible here ({'; '.join(obstacles)})", "use --capture syscall"
    )


def layout_of(program: Any) -> dict[str, list[int]]:
    """Return offset and size of each member of the record as BCC's clang laid it out."""
    leaf = program["layout"].Leaf
    return {name: [getattr(leaf, name).offset, getattr(leaf, name).size] for name, *_ in leaf._fields_}


def connection_bytes(program: Any) -> int:
    """Return the size of a connection's state."""
    return ctypes.sizeof(program["connections"].Leaf)


def fill_maps(program: Any, settings: ProbeSettings) -> None:
    """Fill what the programs read: the automaton and the filters."""
    automata = program["automata"]
    forwarding = settings.client_from if settings.client_from in http1.FORWARDING_FIELDS else ""
    automata[ctypes.c_int(0)] = automata.Leaf.from_buffer_copy(http1.table(forwarding))
    evicted = program["evicted"]  # 0 is no connection's key: whether some found no room there
    evicted[evicted.Key(0)] = evicted.Leaf(0)
    for name, values in (("wanted_pids", settings.pids), ("wanted_ports", settings.ports)):
        table = program[name]
        for value in values:
            table[table.Key(value)] = table.Leaf(1)
    table = program["judged_executables"]
    for inode, device, changed_ns, wanted in settings.executables[:EXECUTABLES_MAX]:
        table[table.Key(inode, device, changed_ns)] = table.Leaf(wanted)


def receive_settings(channel: socket.socket) -> str:
    """Read the settings: too long for a command line, so in parts, the last of which is a dot."""
    parts = []
    while (part := channel.recv(MESSAGE_BYTES)) != b".":
        if not part:
            raise SystemExit  # the parent has ended
        parts.append(part)
    return b"".join(parts).decode()


def hand_over(channel: socket.socket, settings: ProbeSettings) -> None:
    """Do all of it: the parent approves of the layout before anything is attached, then gets the descriptors."""

    def approve(program: Any) -> None:
        channel.send(json.dumps({"layout": layout_of(program)}).encode())
        if channel.recv(1) != APPROVED:
            raise SystemExit

    attached = attach_first(import_bcc(), settings, approve)
    program, links, programs = attached.program, attached.links, attached.attacher.programs
    functions, arrays = programs.all(), list(programs.arrays.values())
    handed_over = [*HANDED_OVER, *(HANDED_OVER_TLS if settings.follow_tls else [])]
    message = {
        "maps": [*handed_over, *(f"programs {i}" for i in range(len(arrays)))],
        "links": list(links),
        "functions": list(functions),
        "connection_bytes": connection_bytes(program),
        "capture": {"capture": attached.capture.name, "how": attached.capture.how, "obstacles": attached.obstacles},
    }
    maps = [*(program[name].map_fd for name in handed_over), *arrays]
    descriptors = [*maps, *links.values(), *functions.values()]
    socket.send_fds(channel, [json.dumps(message).encode()], descriptors[:DESCRIPTORS])
    for at in range(DESCRIPTORS, len(descriptors), DESCRIPTORS):
        socket.send_fds(channel, [b"+"], descriptors[at : at + DESCRIPTORS])


def main() -> None:
    """Serve the parent once; always answers, then leaves without BCC's own clean-up, which would detach."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    die_with_parent()
    channel = socket.socket(fileno=int(sys.argv[1]))
    try:
        settings = ProbeSettings.from_json(receive_settings(channel))
        if os.getppid() == int(sys.argv[2]):
            tree.remove_stale()
            hand_over(channel, settings)
    except RingspanError as error:
        channel.send(json.dumps({"reason": error.reason, "remedy": error.remedy}).encode())
    except (SystemExit, BrokenPipeError, ConnectionResetError):  # there is no one left to serve
        pass
    channel.close()
    os._exit(0)


if __name__ == "__main__":
    main()
