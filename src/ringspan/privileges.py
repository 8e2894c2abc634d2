"""What ringspan may do: no more than it needs, from the moment the probe is being compiled (capabilities(7)).

The child that compiles and attaches begins with what ringspan was given, and is gone before `ready`. The consumer,
which reads what strangers wrote, keeps what naming processes takes; ringspan.sandbox says which calls it may make.
"""

from __future__ import annotations

import ctypes as ct
import errno
import logging
import os
import platform
import pwd
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ringspan.errors import UsageError

log = logging.getLogger(__name__)
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 4, 8, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
BPF_MAP_LOOKUP_ELEM, BPF_ATTRIBUTE_BYTES = 1, 128
BPF_CALL = {"x86_64": 321, "aarch64": 280}


class Capability(NamedTuple):
    """One capability: its number, and what ringspan wants it for."""

    number: int
    purpose: str


SYS_ADMIN = 21
TO_TRACE = {
    "cap_bpf": Capability(39, "to load BPF programs and make their maps"),
    "cap_perfmon": Capability(38, "to attach them, and to read kernel memory in them"),
}
TO_NAME = {
    "cap_sys_ptrace": Capability(19, "to see the executables and namespaces of other users' processes"),
    "cap_dac_read_search": Capability(2, "to read OTEL_SERVICE_NAME in the environment of other users' processes"),
}
TO_ATTACH_BY_EVENTS = {"cap_sys_admin": Capability(SYS_ADMIN, "to attach to TLS libraries before Linux 6.6")}
TO_GUARD = {"cap_lease": Capability(28, "to be told before another user's file is written to that is followed")}
TO_BECOME = {
    "cap_setgid": Capability(6, "to become another user"),
    "cap_setuid": Capability(7, "to become another user"),
}


@cache
def _libc() -> ct.CDLL:
    return ct.CDLL(None, use_errno=True)


@cache
def _libcap() -> ct.CDLL:
    """Load libcap; raises OSError."""
    libcap = ct.CDLL("libcap.so.2", use_errno=True)
    libcap.cap_from_text.restype = ct.c_void_p
    libcap.cap_from_text.argtypes = [ct.c_char_p]
    libcap.cap_set_proc.argtypes = libcap.cap_free.argtypes = [ct.c_void_p]
    return libcap


def available() -> bool:
    """Whether capabilities can be given up here."""
    try:
        return bool(_libcap())
    except OSError:
        return False


def _mask(line: str) -> int:
    for words in map(str.split, Path("/proc/thread-self/status").read_text().splitlines()):
        if words[0] == f"{line}:":
            return int(words[1], 16)
    return 0


def in_user_namespace() -> bool:
    """Whether this is a user namespace of its own, as a rootless container's: what its root may do, BPF is not."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def missing(wanted: dict[str, Capability]) -> dict[str, Capability]:
    """Return those of `wanted` that are not in effect; SYS_ADMIN stands for BPF and PERFMON, as in the kernel."""
    have = 0 if in_user_namespace() else _mask("CapEff")
    if have >> SYS_ADMIN & 1:
        have |= sum(1 << one.number for one in TO_TRACE.values())
    return {name: one for name, one in wanted.items() if not have >> one.number & 1}


def _keep(names: dict[str, Capability], dormant: dict[str, Capability] | None = None) -> None:
    """Give up all of this thread's capabilities but these; dormant ones are not in effect; raises OSError."""
    have = _mask("CapPrm")
    text = "="
    for wanted, flags in ((names, "ep"), (dormant or {}, "p")):
        held = [name for name, one in wanted.items() if have >> one.number & 1]
        text += f" {','.join(held)}+{flags}" if held else ""
    libcap = _libcap()
    state = libcap.cap_from_text(text.encode())
    failed = not state or libcap.cap_set_proc(state)
    number = ct.get_errno()
    libcap.cap_free(state)
    if failed:
        raise OSError(number, f"capabilities cannot be set to {text!r}: {os.strerror(number)}")


def _reading_maps_is_refused() -> bool:
    """Whether reading a BPF map takes CAP_BPF, which is not in effect now (so until Linux 5.19, c8644cd0efe7)."""
    attributes = ct.create_string_buffer(b"\xff\xff\xff\xff", BPF_ATTRIBUTE_BYTES)  # of a descriptor that is none
    _libc().syscall(BPF_CALL.get(platform.machine(), 0), BPF_MAP_LOOKUP_ELEM, attributes, BPF_ATTRIBUTE_BYTES)
    return ct.get_errno() == errno.EPERM


def limit(user: str | None) -> None:
    """Give up what only starting takes, while this process has but one thread, which each later one takes after.

    It cannot gain anything by an exec from now on, nor be looked into by processes of the same user.
    """
    bpf = {"cap_bpf": TO_TRACE["cap_bpf"]}
    kept = TO_NAME | (TO_BECOME if user else {})
    try:
        _keep(kept, bpf)
        _keep(kept | bpf if _reading_maps_is_refused() else kept)
    except OSError as error:
        log.warning("all capabilities are kept: %s", error)
    _seal()


def limit_to_attaching(*, by_events: bool) -> None:
    """Give up all but what attaching to the libraries of all processes takes, and any way to gain more."""
    kept = TO_NAME | TO_GUARD | {"cap_perfmon": TO_TRACE["cap_perfmon"]}
    try:
        _keep(kept | (TO_ATTACH_BY_EVENTS if by_events else {}))
    except OSError as error:
        log.warning("all capabilities are kept: %s", error)
    _seal()


def _seal() -> None:
    libc = _libc()
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def check_user(user: str) -> None:
    """Raise UsageError unless there is such a user, and ringspan can become it."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"--user {user}: there is no such user") from None
    if not available():
        raise UsageError(f"--user {user}: libcap.so.2 cannot be loaded", "apt-get install libcap2")
    lacking = missing(TO_BECOME)
    if lacking:
        raise UsageError(f"--user {user}: cannot become another user without {' and '.join(lacking)}", "run as root")


def become(user: str) -> None:
    """Be this user from now on, in all threads, with no capability at all; raises OSError.

    Where reading BPF maps takes CAP_BPF, the thread that calls (which reads them) keeps that.
    """
    entry = pwd.getpwnam(user)
    bpf = {name: one for name, one in TO_TRACE.items() if name == "cap_bpf" and _mask("CapEff") >> one.number & 1}
    _libc().prctl(PR_SET_KEEPCAPS, bool(bpf), 0, 0, 0)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    _keep(bpf)
    _seal()  # again: who becomes another is as dumpable as fs.suid_dumpable says
