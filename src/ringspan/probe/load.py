"""BPF programs into the kernel, and onto what they attach to: libbpf's plain calls, on BCC's instructions."""

from __future__ import annotations

import ctypes as ct
import errno
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ringspan.errors import CannotTrace
from ringspan.probe.btf import load_libbpf

# enum bpf_prog_type, bpf_attach_type and bpf_map_type of linux/bpf.h
KPROBE, TRACEPOINT, RAW_TRACEPOINT, TRACING = 2, 5, 17, 26
FENTRY, FEXIT, UPROBE_MULTI = 24, 25, 48
PROG_ARRAY = 3
LOAD_IMM64, PSEUDO_MAP_FD, INSTRUCTION_BYTES = 0x18, 1, 8
NOTHING = b"\xb7\0\0\0\0\0\0\0\x95\0\0\0\0\0\0\0"  # r0 = 0; exit
COPY_MARK = (0x2E0B5EED).to_bytes(4, "little")
LOG_BYTES = 1 << 20
KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
UPROBE_TYPE = Path("/sys/bus/event_source/devices/uprobe/type")
BPF_CALL, LINK_CREATE = {"x86_64": 321, "aarch64": 280}, 28
TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
PERF_TYPE_TRACEPOINT = 2
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
PERF_FLAG_FD_CLOEXEC, SET_BPF, ENABLE = 8, 0x40042408, 0x2400  # PERF_EVENT_IOC_*


class Options(ct.Structure):
    """The first members of struct bpf_prog_load_opts (libbpf's bpf.h); libbpf takes the rest as zero."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_void_p),
    ]


class PerfEvent(ct.Structure):
    """The first members of struct perf_event_attr (linux/perf_event.h): PERF_ATTR_SIZE_VER1."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("size", ct.c_uint32),
        ("config", ct.c_uint64),
        ("_sampling", ct.c_uint64 * 4),
        ("_wakeup", ct.c_uint64),
        ("function", ct.c_char_p),
        ("offset", ct.c_uint64),
    ]


class UprobesLink(ct.Structure):
    """What BPF_LINK_CREATE is given for uprobe_multi (union bpf_attr in linux/bpf.h)."""

    _fields_ = [
        ("prog_fd", ct.c_uint32),
        ("target_fd", ct.c_uint32),
        ("attach_type", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("path", ct.c_uint64),
        ("offsets", ct.c_uint64),
        ("ref_ctr_offsets", ct.c_uint64),
        ("cookies", ct.c_uint64),
        ("count", ct.c_uint32),
        ("uprobe_flags", ct.c_uint32),
        ("pid", ct.c_uint32),
    ]


@dataclass(frozen=True)
class Kind:
    """What a program is loaded as: of tracing ones also for which function (by its BTF id), at entry or return."""

    type: int
    attach: int = 0
    function_id: int = 0


@cache
def _libbpf() -> ct.CDLL:
    library = load_libbpf()
    library.bpf_prog_load.argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_char_p, ct.c_size_t, ct.POINTER(Options)]
    library.bpf_map_create.argtypes = [ct.c_int, ct.c_char_p, ct.c_uint32, ct.c_uint32, ct.c_uint32, ct.c_void_p]
    library.bpf_raw_tracepoint_open.argtypes = [ct.c_char_p, ct.c_int]
    return library


def _checked(fd: int, what: str) -> int:
    if fd < 0:
        number = ct.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(fd)


def with_map(code: bytes, old_fd: int, new_fd: int) -> bytes:
    """Return instructions that use another map in the place of one."""
    out = bytearray(code)
    at = 0
    while at < len(out):
        wide = out[at] == LOAD_IMM64
        if wide and out[at + 1] >> 4 == PSEUDO_MAP_FD and out[at + 4 : at + 8] == old_fd.to_bytes(4, "little"):
            out[at + 4 : at + 8] = new_fd.to_bytes(4, "little")
        at += INSTRUCTION_BYTES * (2 if wide else 1)
    return bytes(out)


def as_copy(code: bytes, number: int) -> bytes:
    """Return instructions that know which copy of a program they are (this_copy in bpf/copies.h)."""
    return code.replace(COPY_MARK, (1 << number).to_bytes(4, "little"))


def load(name: str, code: bytes, kind: Kind) -> int:
    """Have the kernel verify a program; returns its descriptor; raises CannotTrace with the verifier's last words."""
    options = Options(sz=ct.sizeof(Options), expected_attach_type=kind.attach, attach_btf_id=kind.function_id)
    arguments = kind.type, name.encode()[:15], b"GPL", code, len(code) // INSTRUCTION_BYTES
    fd = int(_libbpf().bpf_prog_load(*arguments, options))
    if fd >= 0:
        return fd
    number = ct.get_errno()
    log = ct.create_string_buffer(LOG_BYTES)
    options.log_level, options.log_size, options.log_buf = 1, LOG_BYTES, ct.addressof(log)
    _libbpf().bpf_prog_load(*arguments, options)
    if os.environ.get("RINGSPAN_DEBUG"):
        os.write(2, log.value)
    lines = [line for line in log.value.decode(errors="replace").splitlines() if line.strip()]
    words = [line for line in lines if not line.startswith(("processed", "verification time", "stack depth"))]
    raise refused(name, words[-1] if words else os.strerror(number))


def refused(name: str, reason: str) -> CannotTrace:
    """Say why the kernel does not take a program; in lockdown=confidentiality it knows no way to read its memory."""
    if "unknown func bpf_probe_read" in reason:
        return CannotTrace(
            "the kernel is in lockdown=confidentiality, where BPF may not read its memory",
            "boot with lockdown=integrity or without lockdown",
        )
    return CannotTrace(f"the kernel refuses the program {name}: {reason}", "run as root; see ringspan doctor")


def make_program_array(size: int) -> int:
    """Make a map of programs for tail calls; returns its descriptor; raises OSError."""
    return _checked(_libbpf().bpf_map_create(PROG_ARRAY, b"programs", 4, 4, size, None), "map of programs")


def attach_tracepoint(name: str, fd: int) -> int:
    """Attach to a raw tracepoint; returns the link; raises OSError."""
    return _checked(_libbpf().bpf_raw_tracepoint_open(name.encode(), fd), name)


def attach_tracing(function: str, fd: int) -> int:
    """Attach a tracing program to the function it was loaded for; returns the link; raises OSError."""
    return _checked(_libbpf().bpf_raw_tracepoint_open(None, fd), function)


def attach_uprobes(path: str, fd: int, functions: dict[int, int], pid: int = 0) -> int:
    """Attach to places of a file by their offsets, each with its function's number; returns the link.

    `pid`: for this process, or (0) for all. Linux 6.6.
    """
    count, name = len(functions), ct.create_string_buffer(path.encode())
    offsets, numbers = (ct.c_uint64 * count)(*functions), (ct.c_uint64 * count)(*functions.values())
    link = UprobesLink(fd, 0, UPROBE_MULTI, 0, ct.addressof(name), ct.addressof(offsets), 0, ct.addressof(numbers),
                       count, 0, pid)  # fmt: skip
    call = BPF_CALL.get(platform.machine(), 0)
    return _checked(ct.CDLL(None, use_errno=True).syscall(call, LINK_CREATE, ct.byref(link), ct.sizeof(link)), path)


def attach_uprobe(path: str, fd: int, offset: int) -> int:
    """Attach to one place of a file, as attach_kprobe; slow to end (0.1 s each), so only before Linux 6.6."""
    kind = int(UPROBE_TYPE.read_text())
    event = PerfEvent(type=kind, function=path.encode(), offset=offset)
    return _attach_event(event, fd, path)


def attach_kprobe(function: str, fd: int, *, at_return: bool) -> int:
    """Attach by a breakpoint, which lives as long as its perf event; returns that; raises OSError."""
    try:
        kind = int(KPROBE_TYPE.read_text())
    except OSError as error:
        raise OSError(errno.EOPNOTSUPP, f"{function}: the kernel has no kprobes") from error
    return _attach_event(PerfEvent(type=kind, config=int(at_return), function=function.encode()), fd, function)


def attach_event(name: str, fd: int) -> int:
    """Attach to a tracepoint (group/name) by a perf event, as attach_kprobe; raises OSError."""
    found = next((path for folder in TRACEFS if (path := folder / "events" / name / "id").exists()), None)
    if not found:
        raise OSError(errno.ENOENT, f"{name}: no tracefs (mount -t tracefs tracefs {TRACEFS[0]})")
    return _attach_event(PerfEvent(type=PERF_TYPE_TRACEPOINT, config=int(found.read_text())), fd, name)


def _attach_event(event: PerfEvent, fd: int, function: str) -> int:
    libc = ct.CDLL(None, use_errno=True)
    event.size = ct.sizeof(PerfEvent)
    number = PERF_EVENT_OPEN.get(platform.machine(), 0)
    opened = _checked(libc.syscall(number, ct.byref(event), -1, 0, -1, PERF_FLAG_FD_CLOEXEC), function)
    try:
        for request, argument in ((SET_BPF, fd), (ENABLE, 0)):
            _checked(libc.ioctl(opened, ct.c_ulong(request), argument), function)
    except OSError:
        os.close(opened)
        raise
    return opened
