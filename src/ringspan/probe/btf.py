"""Kernel types from the running kernel's own BTF: a source tree small enough that BCC needs no kernel headers.

BCC wants a kernel source folder (BCC_KERNEL_SOURCE). Real headers break old BCCs on new kernels; the types that a
tracer reads, dumped by libbpf from /sys/kernel/btf/vmlinux, are 40 KB and always those of the kernel that runs.
"""

from __future__ import annotations

import ctypes as ct
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ringspan.errors import CannotTrace

BTF_FILE = Path("/sys/kernel/btf/vmlinux")
STRUCTS = [
    "sock",
    "tcp_sock",
    "inet_connection_sock",
    "unix_sock",
    "unix_address",
    "socket",
    "task_struct",
    "pid",
    "upid",
    "files_struct",
    "fdtable",
    "file",
    "inode",
    "super_block",
    "mm_struct",
    "linux_binprm",
    "net",
    "pt_regs",
    "user_msghdr",
    "iovec",
    "msghdr",
    "iov_iter",
    "io_kiocb",
    "xol_area",
]
ENUMS = ["iter_type"]
TYPEDEFS = [
    "u8",
    "u16",
    "u32",
    "u64",
    "s8",
    "s16",
    "s32",
    "s64",
    "__u8",
    "__u16",
    "__u32",
    "__u64",
    "__s8",
    "__s16",
    "__s32",
    "__s64",
    "__be16",
    "__be32",
    "size_t",
    "bool",
    "pid_t",
    "__wsum",
    "btf_trace_io_uring_file_get",
    "__sum16",
]
KIND_STRUCT, KIND_ENUM, KIND_TYPEDEF, KIND_FUNC = 4, 6, 8, 12  # enum in include/uapi/linux/btf.h
# Helpers that not every kernel has, and the flags that follow from them. The second came with 5.13 and stands for the
# atomic instructions of 5.12, which BTF does not show.
FUNCTIONS = {
    "bpf_get_current_task_btf": "HAS_TASK_BTF",
    "bpf_for_each_map_elem": "HAS_ATOMICS",
    "bpf_task_pt_regs": "HAS_CALL_REGISTERS",
    "bpf_uprobe_multi_link_attach": "HAS_UPROBE_MULTI",
}
# Names in the dumped types that tell how they are to be read.
TELLING = {
    rb"\bf_ref;": "HAS_FILE_REF",
    rb"struct xol_area \{": "HAS_XOL_AREA",
    rb"\biter_type;": "HAS_ITER_TYPE",
    rb"\bITER_UBUF\b": "HAS_ITER_UBUF",
    rb"\*__iov;": "HAS_ITER_UNDERSCORED",
    rb"btf_trace_io_uring_file_get\)\(void \*, struct io_kiocb \*": "HAS_IO_URING_REQUEST",
}

# What raw tracepoints are guarded by where they leave preemption on (since 7.0).
TRACEPOINT_GUARD = b"class_srcu_fast_notrace_t"

# Headers that BCC's own prelude includes by name: what they would define is in vmlinux.h already.
EMPTY_HEADERS = [
    "uapi/linux/bpf.h",
    "uapi/linux/if_packet.h",
    "uapi/linux/if_ether.h",
    "uapi/linux/ptrace.h",
    "linux/log2.h",
    "linux/types.h",
    "linux/bpf_common.h",
]
KCONFIG_H = """#pragma once
#define CONFIG_BPF_SYSCALL 1
#define BPF_NO_PRESERVE_ACCESS_INDEX
#include "vmlinux.h"
#define __aligned_u64 __u64 __attribute__((aligned(8)))
typedef unsigned long uintptr_t;
#define true 1
#define false 0
"""
VERSION_H = """#define KERNEL_VERSION(a,b,c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#define LINUX_VERSION_CODE KERNEL_VERSION({},{},{})
"""
PRINTF = ct.CFUNCTYPE(None, ct.c_void_p, ct.c_char_p, ct.c_void_p)


def load_libbpf() -> ct.CDLL:
    """Load libbpf 1.x, which BCC depends on; raises CannotTrace if it is not there."""
    try:
        return ct.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise CannotTrace("libbpf.so.1 cannot be loaded", "install libbpf1 (it comes with python3-bpfcc)") from error


def has_uprobe_multi() -> bool:
    """Whether one link may hold many functions of a file, for which a program's descriptor is enough (Linux 6.6).

    Asked without parsing: the process that asks has no other use for the types.
    """
    name = "bpf_uprobe_multi_link_attach"
    return name in FUNCTIONS and f"\0{name}\0".encode() in BTF_FILE.read_bytes()


class Function(NamedTuple):
    """A function of the kernel: its BTF id and the names of its parameters."""

    id: int
    parameters: tuple[str, ...]


class KernelTypes(NamedTuple):
    """What BTF tells: the structs a tracer reads, as C, what differs between kernels, as -D flags, and functions."""

    text: bytes
    flags: list[str]
    functions: dict[str, Function]


class _Type(ct.Structure):
    """struct btf_type (linux/btf.h)."""

    _fields_ = [("name", ct.c_uint32), ("info", ct.c_uint32), ("type", ct.c_uint32)]


class _Parameter(ct.Structure):
    """struct btf_param, of which a prototype is followed."""

    _fields_ = [("name", ct.c_uint32), ("type", ct.c_uint32)]


def _declare(bpf: ct.CDLL) -> None:
    bpf.btf__load_vmlinux_btf.restype = bpf.btf_dump__new.restype = ct.c_void_p
    bpf.btf__find_by_name_kind.argtypes = [ct.c_void_p, ct.c_char_p, ct.c_uint32]
    bpf.btf_dump__new.argtypes = [ct.c_void_p, PRINTF, ct.c_void_p, ct.c_void_p]
    bpf.btf_dump__dump_type.argtypes = [ct.c_void_p, ct.c_uint32]
    bpf.btf_dump__free.argtypes = bpf.btf__free.argtypes = [ct.c_void_p]
    bpf.btf__type_by_id.argtypes = bpf.btf__name_by_offset.argtypes = [ct.c_void_p, ct.c_uint32]
    bpf.btf__type_by_id.restype = ct.c_void_p
    bpf.btf__name_by_offset.restype = ct.c_char_p


def _dump(bpf: ct.CDLL, btf: int) -> bytes:
    """Return the wanted types as C."""
    libc = ct.CDLL(None)
    libc.vsnprintf.argtypes = [ct.c_char_p, ct.c_size_t, ct.c_char_p, ct.c_void_p]
    out: list[bytes] = []
    buffer = ct.create_string_buffer(4096)

    def emit(_context: object, template: bytes, arguments: object) -> None:
        libc.vsnprintf(buffer, len(buffer), template, arguments)
        out.append(buffer.value)

    callback = PRINTF(emit)
    dump = bpf.btf_dump__new(btf, callback, None, None)
    for kind, names in ((KIND_ENUM, ENUMS), (KIND_STRUCT, STRUCTS), (KIND_TYPEDEF, TYPEDEFS)):
        for name in names:
            type_id = bpf.btf__find_by_name_kind(btf, name.encode(), kind)
            if type_id > 0:
                bpf.btf_dump__dump_type(dump, type_id)
    bpf.btf_dump__free(dump)
    return b"".join(out)


def _functions(bpf: ct.CDLL, btf: int, names: Iterable[str]) -> dict[str, Function]:
    """Return those of these functions that the kernel has."""
    found = {}
    for name in names:
        function_id = bpf.btf__find_by_name_kind(btf, name.encode(), KIND_FUNC)
        if function_id <= 0:
            continue
        prototype = bpf.btf__type_by_id(btf, _Type.from_address(bpf.btf__type_by_id(btf, function_id)).type)
        count = _Type.from_address(prototype).info & 0xFFFF
        parameters = (_Parameter * count).from_address(prototype + ct.sizeof(_Type))
        names_of = tuple(bpf.btf__name_by_offset(btf, one.name).decode() for one in parameters)
        found[name] = Function(function_id, names_of)
    return found


def read_types(functions: Iterable[str] = ()) -> KernelTypes:
    """Read the running kernel's types and features, and what it says of functions; raises CannotTrace without BTF."""
    bpf = load_libbpf()
    _declare(bpf)
    btf = bpf.btf__load_vmlinux_btf()
    if not btf:
        raise CannotTrace(
            f"the kernel's types ({BTF_FILE}) cannot be read", "run a kernel with CONFIG_DEBUG_INFO_BTF=y"
        )
    text = _dump(bpf, btf)
    helpers = _functions(bpf, btf, FUNCTIONS)
    flags = [f"-D{flag}" for name, flag in FUNCTIONS.items() if name in helpers]
    flags += [f"-D{flag}" for pattern, flag in TELLING.items() if re.search(pattern, text)]
    guarded = bpf.btf__find_by_name_kind(btf, TRACEPOINT_GUARD, KIND_TYPEDEF) > 0
    flags += ["-DHAS_PREEMPTED_TRACEPOINTS"] if guarded else []
    found = _functions(bpf, btf, functions)
    bpf.btf__free(btf)
    timed = re.search(rb"\bstruct timespec64 (\w*i_ctime);", text)
    if timed:
        flags.append(f"-DINODE_CTIME={timed[1].decode()}")
    return KernelTypes(text, flags, found)


def write_tree(root: Path, types: bytes) -> None:
    """Write the folder that BCC_KERNEL_SOURCE is to name."""
    include = root / "include"
    for name in EMPTY_HEADERS:
        header = include / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text("/* see vmlinux.h */\n")
    (include / "asm").mkdir(exist_ok=True)
    release = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", os.uname().release)
    numbers = release.groups("0") if release else ("5", "8", "0")
    (include / "linux/version.h").write_text(VERSION_H.format(*numbers))
    (include / "asm/page.h").write_text(f"#define PAGE_SIZE {os.sysconf('SC_PAGESIZE')}\n")
    (include / "linux/kconfig.h").write_text(KCONFIG_H)
    (include / "vmlinux.h").write_bytes(types)
