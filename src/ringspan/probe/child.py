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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ringspan.errors import CannotTrace, RingspanError
from ringspan.probe import btf, tree
from ringspan.probe.settings import EXECUTABLES_MAX, ProbeSettings
from ringspan.probe.source import assemble
from ringspan.protocols import http1

# The tail-called ones in the order of `enum program` in bpf/maps.h; the rest with their tracepoints. A connection must
# not be seen to move bytes before its closing can be seen, hence the order.
TAIL_CALLED = ["on_lay_out", "on_follow", "on_settle", "on_close", "on_connection_state", "on_connect", "on_forget_own",
               "on_close_files", "on_forget"]  # fmt: skip
ATTACHED = {
    "tcp_destroy_sock": "on_destroy",
    "sched_process_exit": "on_process_exit",
    "sched_process_exec": "on_process_exec",
    "inet_sock_set_state": "on_set_state",
    "sys_exit": "on_sys_exit",
    "sys_enter": "on_sys_enter",
}
RUN_BY_US = ["on_evict"]  # attached to nothing
HANDED_OVER = [
    "records",
    "births",
    "counters",
    "connections",
    "exchanges",
    "judged_executables",
    "programs",
    "attempts",
]

MESSAGE_BYTES = 1 << 16
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, NO_SETUID_FIXUP, NOBODY = 1, 28, 1 << 2, 65534


def said() -> list[str]:
    """Return what libbcc and clang have written to descriptor 2, which the parent made a file."""
    try:
        return [line for line in os.pread(2, MESSAGE_BYTES, 0).decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []


def die_with_parent() -> None:
    """Have SIGTERM sent to this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def import_bcc() -> Any:
    """Import BCC; raises CannotTrace if it is not installed for this Python."""
    try:
        import bcc  # noqa: PLC0415
    except ImportError as error:
        raise CannotTrace(
            "BCC is not installed for this Python", "apt-get install python3-bpfcc (not PyPI's bcc)"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise CannotTrace(
            "the module bcc is not the BPF Compiler Collection", "pip uninstall bcc; apt-get install python3-bpfcc"
        )
    return bcc


@contextmanager
def without_kernel_symbols() -> Iterator[None]:
    """Keep BCC from reading all of /proc/kallsyms, twice, half a second of its start; nothing here needs a symbol.

    It does so as root only (bcc_procutils_each_ksym), so for a while the child is not, by its effective user; the
    capabilities that make the maps stay (SECBIT_NO_SETUID_FIXUP).
    """
    libc = ctypes.CDLL(None)
    if os.geteuid() or libc.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0):
        yield
        return
    os.seteuid(NOBODY)
    die_with_parent()  # a change of user calls it off
    try:
        yield
    finally:
        os.seteuid(0)
        die_with_parent()


def compile_program(bcc: Any, settings: ProbeSettings) -> Any:
    """Compile against the running kernel's own types; raises CannotTrace with the compiler's words."""
    types = btf.read_types()
    with tree.private_folder(os.getppid()) as folder:
        btf.write_tree(folder, types.text)
        os.environ["BCC_KERNEL_SOURCE"] = str(folder)
        flags = [*settings.flags(os.sysconf("SC_PAGESIZE")), *types.flags, "-Wno-everything"]
        if not os.environ.get("RINGSPAN_DEBUG"):
            flags.append("-g0")  # no line numbers in the verifier's words, and a fifth of a second less
        try:
            with without_kernel_symbols():
                return bcc.BPF(text=assemble(), cflags=flags)
        except Exception as error:
            reason = next((line for line in said() if "error:" in line), str(error))
            raise CannotTrace(
                f"the BPF program does not compile: {reason}", "report this with the output of ringspan doctor"
            ) from error


def refused(name: str, reason: str) -> CannotTrace:
    """Say why the kernel does not take a program; in lockdown=confidentiality it knows no way to read its memory."""
    if "unknown func bpf_probe_read" in reason:
        return CannotTrace(
            "the kernel is in lockdown=confidentiality, where BPF may not read its memory",
            "boot with lockdown=integrity or without lockdown",
        )
    return CannotTrace(f"the kernel refuses the program {name}: {reason}", "run as root; see ringspan doctor")


def load_functions(bcc: Any, program: Any) -> dict[str, int]:
    """Have the kernel verify the programs, side by side; returns descriptors; raises CannotTrace with its words."""
    names = [*TAIL_CALLED, *ATTACHED.values(), *RUN_BY_US]
    with ThreadPoolExecutor(2) as pool:
        loaded = {name: pool.submit(program.load_func, name, bcc.BPF.RAW_TRACEPOINT) for name in names}
    for name, future in loaded.items():
        error = future.exception()
        if error:
            words = [line for line in said() if not line.startswith(("processed", "bpf:"))]
            raise refused(name, words[-1] if words else str(error))
    return {name: int(future.result().fd) for name, future in loaded.items()}


def layout_of(program: Any) -> dict[str, list[int]]:
    """Return offset and size of each member of the record as BCC's clang laid it out."""
    leaf = program["layout"].Leaf
    return {name: [getattr(leaf, name).offset, getattr(leaf, name).size] for name, *_ in leaf._fields_}


def connection_bytes(program: Any) -> int:
    """Return the size of a connection's state."""
    return ctypes.sizeof(program["connections"].Leaf)


def fill_maps(program: Any, settings: ProbeSettings, functions: dict[str, int]) -> None:
    """Fill what the programs read: the automaton, the filters, each other."""
    automata, programs = program["automata"], program["programs"]
    automata[ctypes.c_int(0)] = automata.Leaf.from_buffer_copy(http1.table())
    for i, name in enumerate(TAIL_CALLED):
        programs[ctypes.c_int(i)] = ctypes.c_int(functions[name])
    evicted = program["evicted"]  # 0 is no connection's key: whether some found no room there
    evicted[evicted.Key(0)] = evicted.Leaf(0)
    for name, values in (("wanted_pids", settings.pids), ("wanted_ports", settings.ports)):
        table = program[name]
        for value in values:
            table[table.Key(value)] = table.Leaf(1)
    table = program["judged_executables"]
    for inode, device, changed_ns, wanted in settings.executables[:EXECUTABLES_MAX]:
        table[table.Key(inode, device, changed_ns)] = table.Leaf(wanted)


def attach(bcc: Any, functions: dict[str, int]) -> list[int]:
    """Attach to the raw tracepoints; returns the links' descriptors; raises CannotTrace."""
    links = []
    for tracepoint, name in ATTACHED.items():
        fd = bcc.lib.bpf_attach_raw_tracepoint(functions[name], tracepoint.encode())
        if fd < 0:
            raise CannotTrace(
                f"the raw tracepoint {tracepoint} cannot be attached", "run as root, on Linux 5.8 or later"
            )
        links.append(fd)
    return links


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
    bcc = import_bcc()
    program = compile_program(bcc, settings)
    channel.send(json.dumps({"layout": layout_of(program)}).encode())
    functions = load_functions(bcc, program)
    fill_maps(program, settings, functions)
    if channel.recv(1) != b"+":
        return
    links = attach(bcc, functions)
    maps = [program[name].map_fd for name in HANDED_OVER]
    message = {
        "maps": HANDED_OVER,
        "links": list(ATTACHED),
        "functions": list(functions),
        "connection_bytes": connection_bytes(program),
    }
    socket.send_fds(channel, [json.dumps(message).encode()], [*maps, *links, *functions.values()])


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
