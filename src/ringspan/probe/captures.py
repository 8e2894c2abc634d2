"""Ways to see bytes move: for each capture its source, its programs, and what of the kernel they attach to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ringspan.probe import load

# The order is `enum program`'s in bpf/maps.h.
TAIL_CALLED = ["on_lay_out", "on_follow", "on_settle", "on_close", "on_connection_state", "on_connect", "on_forget_own",
               "on_close_files", "on_forget", "on_destroyed", "on_tls_end", "on_join"]  # fmt: skip
RUN_BY_US = ("on_evict", "on_look")  # attached to nothing
ONCE = ("on_process_exec",)  # what copies of it would do twice
FOLLOWING = ("on_lay_out", "on_follow", "on_settle", "on_join")
TLS_RETURNED = ("on_tls_return", "on_go_return")
TLS_CALLED = (*FOLLOWING, "on_tls_end")


class Hook(NamedTuple):
    """A function of the kernel, and the programs at its entry and its return, if any."""

    function: str
    enter: str
    exit: str = ""


@dataclass(frozen=True)
class Capture:
    """One way: raw tracepoints with their programs, what these call, and functions. Attached in the order given.

    What is `optional` not every kernel has.
    """

    name: str
    how: str
    source: str
    tracepoints: dict[str, str]
    called: tuple[str, ...]
    hooks: tuple[Hook, ...] = ()
    optional: tuple[str, ...] = ()
    flags: tuple[str, ...] = field(default=())
    programs: tuple[int, ...] = (load.RAW_TRACEPOINT,)  # their types
    events: dict[str, str] = field(
        default_factory=dict
    )  # tracepoints that are attached to by perf events where need be
    called_by_events: tuple[str, ...] = ()
    unseen: str = "kernel TLS, MPTCP, sockets in a sockmap"  # what passes it by


# A connection must not be seen to move bytes before its closing can be seen, hence the order.
CLOSING = {"tcp_destroy_sock": "on_destroy"}
STATES = {"sched_process_exec": "on_process_exec", "inet_sock_set_state": "on_set_state"}
CALLED = ("on_connection_state", "on_forget_own", "on_destroyed")
CALLED_BY_CALLS = (*FOLLOWING, "on_close", "on_connect", "on_close_files", "on_forget")
SYSCALL = Capture(
    "syscall",
    "raw tracepoints",
    "syscall.bpf.c",
    CLOSING
    | {"sched_process_exit": "on_process_exit"}
    | STATES
    | {"io_uring_file_get": "on_io_uring", "sys_exit": "on_sys_exit", "sys_enter": "on_sys_enter"},
    (*CALLED_BY_CALLS, *CALLED),
    optional=("io_uring_file_get",),
    events={"sys_enter": "raw_syscalls/sys_enter", "sys_exit": "raw_syscalls/sys_exit"},
    called_by_events=CALLED_BY_CALLS,
    unseen="io_uring, 32-bit processes (both are counted), kernel TLS, MPTCP",
)
TCP_TRACEPOINTS = CLOSING | STATES | {"sched_process_exit": "on_thread_exit"}
HOOKS = (
    Hook("unix_release", "enter_unix_release"),
    Hook("unix_shutdown", "enter_unix_shutdown"),
    Hook("security_sock_graft", "enter_graft"),  # which has to be, for what an accept() gives to be known
    Hook("inet_stream_connect", "enter_stream_connect", "exit_of_connect"),
    Hook("unix_stream_connect", "enter_stream_connect", "exit_of_connect"),
    Hook("tcp_splice_read", "enter_splice_read", "exit_of_receive"),
    Hook("unix_stream_splice_read", "enter_splice_read", "exit_of_receive"),
    Hook("tcp_sendpage", "enter_tcp_sendpage", "exit_of_send"),
    Hook("unix_stream_sendpage", "enter_unix_stream_sendpage", "exit_of_send"),
    Hook("tcp_recvmsg", "enter_tcp_recvmsg", "exit_of_receive"),
    Hook("unix_stream_recvmsg", "enter_unix_stream_recvmsg", "exit_of_receive"),
    Hook("tcp_sendmsg", "enter_tcp_sendmsg", "exit_of_send"),
    Hook("unix_stream_sendmsg", "enter_unix_stream_sendmsg", "exit_of_send"),
)
# Gone since Linux 6.5 (dc97391e6610); inlined where a compiler chose so.
OPTIONAL = ("tcp_sendpage", "unix_stream_sendpage", "tcp_push", "unix_stream_read_actor")
# Of returns a breakpoint sees those of 10 threads, or of two for each processor, at once (kernel/kprobes.c): any number
# may sleep in a call, none where TCP says how much of it has been read or taken, and where a piece is copied.
WITHIN = (
    Hook("tcp_rcv_space_adjust", "enter_tcp_rcv_space_adjust"),
    Hook("tcp_push", "enter_tcp_push"),
    Hook("unix_stream_read_actor", "", "exit_of_unix_read"),
)
KPROBE = Capture("tcp", "kprobe", "tcp.bpf.c", TCP_TRACEPOINTS, CALLED, (*HOOKS, *WITHIN), OPTIONAL, ("-DCAPTURE_TCP",))
FENTRY = replace(
    KPROBE,
    how="fentry",
    hooks=HOOKS,
    flags=(*KPROBE.flags, "-DCAPTURE_FENTRY"),
    programs=(load.RAW_TRACEPOINT, load.TRACING),
)
BY_WORD = {"syscall": (SYSCALL,), "fentry": (FENTRY,), "kprobe": (KPROBE,), "tcp": (FENTRY, KPROBE)}
BY_WORD["auto"] = (*BY_WORD["tcp"], SYSCALL)


def is_following(program: str) -> bool:
    """Whether a program at a function's return goes on by tail call to what follows the bytes."""
    return program.startswith("exit_") and not program.endswith("_connect")
