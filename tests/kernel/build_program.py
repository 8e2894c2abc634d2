"""Build a capture's programs in a process of its own: `python -m kernel.build_program CAPTURE VARIANT`.

Prints what it did. The verifier takes those of kprobes on a kernel without kprobes too; those of fentry are compiled only,
unless the kernel has trampolines. arm64's types are not at hand on another machine, so that variant swaps in the layout of
its registers and only compiles.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from unittest import mock

from ringspan.probe import attach, btf, captures, compiler
from ringspan.probe.settings import ProbeSettings

# arch/arm64/include/asm/ptrace.h, as far as it is read
ARM64_REGISTERS = b"""struct pt_regs {
	u64 regs[31];
	u64 sp;
	u64 pc;
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
	u32 unused2;
};
"""
PT_REGS = re.compile(rb"struct pt_regs \{.*?\n\};\n", re.DOTALL)
SETTINGS = ProbeSettings(own_tgid=os.getpid(), follow_tls=True)
VARIANTS = {
    "plain": SETTINGS,
    "without tls": replace(SETTINGS, follow_tls=False),
    "server": replace(SETTINGS, role="server"),
    "client": replace(SETTINGS, role="client", ports=[80], pids=[1], by_executable=True),
    "forwarded": replace(SETTINGS, client_from="forwarded"),
    "without joins, behind proxies": replace(SETTINGS, joins=False, client_from="proxy"),
    "in a pid namespace": replace(SETTINGS, own_namespace=(4, 4026532000), pids=[1]),
    "as on an old kernel": SETTINGS,
    "arm64": SETTINGS,
}
TAIL_CALL = b"\x85\0\0\0\x0c\0\0\0"
NEW = ("-DHAS_TASK_BTF", "-DHAS_ATOMICS", "-DHAS_CALL_REGISTERS", "-DHAS_UPROBE_MULTI")


def types_for(variant: str, types: btf.KernelTypes) -> btf.KernelTypes:
    if variant == "arm64":
        text, count = PT_REGS.subn(ARM64_REGISTERS, types.text)
        assert count == 1
        return types._replace(text=text)
    if variant == "as on an old kernel":
        return types._replace(flags=[flag for flag in types.flags if flag not in NEW])
    return types


def check_stacks(compiled: compiler.Compiled) -> None:
    """Each program has a tail call in it, so that its stack is its thread's (use_own_stack in bpf/programs.h)."""
    lib, module = compiled.bcc.lib, compiled.program.module
    names = [lib.bpf_function_name(module, i).decode() for i in range(lib.bpf_num_functions(module))]
    assert "on_join" in names
    without = [name for name in names if TAIL_CALL not in compiled.code(name)]
    assert not without, without


def main(word: str, variant: str) -> None:
    (capture,) = captures.BY_WORD[word]
    types = types_for(variant, btf.read_types(hook.function for hook in capture.hooks))
    machine = {"x86_64": "RINGSPAN_X86_64"}
    if variant == "arm64":
        machine = {os.uname().machine: "RINGSPAN_ARM64"}
    with (
        mock.patch.object(btf, "read_types", lambda _functions: types),
        mock.patch("ringspan.probe.settings.ARCHITECTURES", machine),
    ):
        compiled = compiler.compile_capture(compiler.import_bcc(), VARIANTS[variant], capture)
    check_stacks(compiled)
    if variant == "arm64" or (word == "fentry" and attach.obstacle(capture)):
        print("compiled")
        return
    attacher = attach.Attacher(compiled, capture, tls=VARIANTS[variant].follow_tls)
    attacher.load()
    print(f"loaded {len(attacher.programs.all())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
