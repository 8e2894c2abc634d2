"""The system calls that a tracer at work may make; all others fail (seccomp(2), by libseccomp's own Python module)."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import termios
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)
# What Python, numpy, gRPC, the C library and the terminal ask for, and no more. Nothing here opens a file to write,
# begins a program, changes who this process is, looks into or signals another, or listens for connections.
ALLOWED = {
    "memory": "brk madvise mincore mlock mmap mprotect mremap munlock munmap",
    "what is open": "close close_range dup dup2 dup3 fadvise64 fdatasync fstat fstatfs fsync getdents64 lseek "
    "pipe2 pread64 pwrite64 read readv write writev",
    "files by name": "access faccessat faccessat2 getcwd lstat newfstatat readlink readlinkat stat statfs statx",
    "waiting": "epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd2 poll ppoll pselect6 select",
    "sockets": "bind connect getpeername getsockname getsockopt recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto "
    "setsockopt shutdown",
    "time": "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep restart_syscall time timerfd_create "
    "timerfd_settime times",
    "threads": "arch_prctl exit exit_group futex futex_waitv getcpu getpriority gettid membarrier rseq "
    "sched_getaffinity sched_getparam sched_getscheduler sched_yield set_robust_list set_tid_address",
    "signals": "rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack",
    "who and where": "getegid geteuid getgid getgroups getpgrp getpid getppid getrandom getresgid getresuid getrusage "
    "getuid sysinfo uname wait4 waitid",
}
# No Unix socket: of many a daemon behind one, root may ask anything, with or without capabilities. No pair of them
# either: each may be sent from, or connected, to any daemon that takes datagrams.
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
# Of maps and programs that it holds: BPF_MAP_{LOOKUP,UPDATE,DELETE}_ELEM, _GET_NEXT_KEY, BPF_PROG_RUN and
# BPF_MAP_LOOKUP_BATCH (enum bpf_cmd in linux/bpf.h).
BPF_COMMANDS = (1, 2, 3, 4, 10, 24)
CLONE_THREAD = 0x10000
# Descriptors' flags and the terminal's modes and size; not TIOCSTI nor TIOCLINUX, which type into a terminal.
IOCTLS = (termios.FIOCLEX, termios.FIONCLEX, termios.FIONBIO, termios.FIONREAD, termios.TCGETS, termios.TCSETS,
          termios.TCSETSW, termios.TCSETSF, termios.TIOCGWINSZ, termios.TIOCGPGRP, termios.TIOCSPGRP)  # fmt: skip
# Of descriptors only flags and copies: who may name a descriptor's owner and signal (F_SETOWN, F_SETSIG; FIOSETOWN and
# SIOCSPGRP of ioctl) kills any process as O_ASYNC tells of data, whatever its user and without kill(2).
FCNTLS = (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)
LEASE_FCNTLS = (fcntl.F_SETLEASE, fcntl.F_GETLEASE)  # they tell the process that takes one, and no other
SOCKET_TYPE = 0xF  # SOCK_TYPE_MASK in linux/net.h: beside flags
PR_SET_NAME, PR_GET_NAME, PR_SET_VMA = 15, 16, 0x53564D41
ATTACHING_BPF = 28  # BPF_LINK_CREATE
PERF_IOCTLS = (0x2400, 0x40042408)  # PERF_EVENT_IOC_ENABLE, _SET_BPF
NO_SOCKETS = "getpeername getsockname getsockopt recvmsg sendmsg sendto shutdown"
WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _library() -> Any:
    """Import libseccomp's module; raises ImportError."""
    return import_module("seccomp")


class _Rules:
    """The filter in the making; a call that is not allowed does not exist (ENOSYS: the C library looks for another)."""

    def __init__(self, library: Any, allowed: dict[str, str]) -> None:
        self._library = library
        self.rules = library.SyscallFilter(library.ERRNO(errno.ENOSYS))
        for name in " ".join(allowed.values()).split():
            self.add(name)

    def add(self, name: str, *conditions: tuple[Any, ...]) -> None:
        library = self._library
        if library.resolve_syscall(library.Arch(), name) >= 0:  # not each machine has each call
            self.rules.add_rule(library.ALLOW, name, *(library.Arg(*condition) for condition in conditions))


def _common(library: Any, allowed: dict[str, str]) -> _Rules:
    """What both processes may do."""
    rules = _Rules(library, allowed)
    equal, masked = library.EQ, library.MASKED_EQ
    rules.add("open", (1, masked, WRITING, 0))
    rules.add("openat", (2, masked, WRITING, 0))
    rules.add("clone", (0, masked, CLONE_THREAD, CLONE_THREAD))
    for command in FCNTLS:
        rules.add("fcntl", (1, equal, command))
    rules.add("fcntl", (1, equal, fcntl.F_SETFL), (2, masked, os.O_ASYNC, 0))
    for number in IOCTLS:
        rules.add("ioctl", (1, equal, number))
    return rules


def _attaching(library: Any) -> Any:
    """What the process that attaches to TLS libraries may do: read files and links, attach, and answer."""
    rules, equal = _common(library, ALLOWED | {"sockets": NO_SOCKETS}), library.EQ
    for name in ("perf_event_open", "inotify_add_watch", "inotify_rm_watch"):
        rules.add(name)
    rules.add("bpf", (0, equal, ATTACHING_BPF))
    for command in LEASE_FCNTLS:
        rules.add("fcntl", (1, equal, command))
    for number in PERF_IOCTLS:
        rules.add("ioctl", (1, equal, number))
    return rules.rules


def _filter(library: Any, *, unix_sockets: bool = False) -> Any:
    made, equal = _common(library, ALLOWED), library.EQ
    add = made.add
    for name, number in (("kill", 0), ("tgkill", 0)):
        add(name, (number, equal, os.getpid()))
    add("prlimit64", (0, equal, 0), (2, equal, 0))
    for number in (PR_SET_NAME, PR_GET_NAME, PR_SET_VMA):
        add("prctl", (0, equal, number))
    for family in FAMILIES:
        add("socket", (0, equal, family))
    if unix_sockets:
        add("socket", (0, equal, socket.AF_UNIX), (1, library.MASKED_EQ, SOCKET_TYPE, socket.SOCK_STREAM))
    for command in BPF_COMMANDS:
        add("bpf", (0, equal, command))
    return made.rules


def enter(*, attaching: bool = False, unix_sockets: bool = False) -> bool:
    """Allow only these calls from now on, in all threads; returns whether it could be done, and says why not."""
    try:
        library = _library()
        rules = _attaching(library) if attaching else _filter(library, unix_sockets=unix_sockets)
        rules.set_attr(library.Attr.CTL_TSYNC, 1)
        rules.set_attr(library.Attr.CTL_OPTIMIZE, 2)  # a binary tree: a call then costs some tens of nanoseconds
        rules.load()
    except ImportError:
        log.warning("no system call is forbidden: python3-seccomp is not installed for this Python")
    except (OSError, RuntimeError) as error:
        log.warning("no system call is forbidden: %s", error)
    else:
        return True
    return False
