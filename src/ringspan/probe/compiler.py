"""The BPF source through BCC, against the running kernel's own types."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ringspan.errors import CannotTrace
from ringspan.probe import btf, load, preemption, tree
from ringspan.probe.captures import Capture
from ringspan.probe.settings import ProbeSettings
from ringspan.probe.source import assemble

SAID_BYTES = 1 << 16
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, NO_SETUID_FIXUP, NOBODY = 1, 28, 1 << 2, 65534


def said() -> list[str]:
    """Return what libbcc and clang have written to descriptor 2, which the parent made a file."""
    try:
        return [line for line in os.pread(2, SAID_BYTES, 0).decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have a signal sent to this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


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


def function_flags(types: btf.KernelTypes) -> list[str]:
    """Return which functions there are, and which of tcp_recvmsg's parameters the flags are, as -D flags."""
    flags = [f"-DHAS_{name}" for name in types.functions]
    receive = types.functions.get("tcp_recvmsg")
    if receive and "flags" in receive.parameters:
        flags.append(f"-DFLAGS_tcp_recvmsg={receive.parameters.index('flags')}")
    return flags


@dataclass(frozen=True)
class Compiled:
    """A compiled source: BCC's handle on its maps, and what of the kernel it was compiled against."""

    bcc: Any
    program: Any
    types: btf.KernelTypes
    copied: frozenset[int] = frozenset()  # types of programs of which the kernel may skip runs

    def code(self, name: str) -> bytes:
        """Return a program's instructions."""
        lib, module = self.bcc.lib, self.program.module
        return ctypes.string_at(
            lib.bpf_function_start(module, name.encode()), lib.bpf_function_size(module, name.encode())
        )


def compile_capture(bcc: Any, settings: ProbeSettings, capture: Capture) -> Compiled:
    """Compile a capture's source, and make its maps; raises CannotTrace with the compiler's words."""
    types = btf.read_types(hook.function for hook in capture.hooks)
    flags = [*settings.flags(os.sysconf("SC_PAGESIZE")), *types.flags, *capture.flags, *function_flags(types)]
    copied = preemption.copied(capture.programs, types.flags)
    flags += ["-DCOPIES"] if copied else []
    flags += ["-DCALLS_BY_EVENTS"] if load.RAW_TRACEPOINT in copied and capture.events else []
    flags += ["-Wno-everything", "-Xclang", "-disable-llvm-passes"]  # BCC optimises what clang hands over, all of it
    if not os.environ.get("RINGSPAN_DEBUG"):
        flags.append("-g0")  # no line numbers in the verifier's words, and a fifth of a second less
    with tree.private_folder(os.getppid()) as folder:
        btf.write_tree(folder, types.text)
        os.environ["BCC_KERNEL_SOURCE"] = str(folder)
        try:
            with without_kernel_symbols():
                return Compiled(bcc, bcc.BPF(text=assemble(capture.source), cflags=flags), types, copied)
        except Exception as error:
            reason = next((line for line in said() if "error:" in line), str(error))
            raise CannotTrace(
                f"the BPF program does not compile: {reason}", "report this with the output of ringspan doctor"
            ) from error
