"""Build the BPF program in a process of its own: `python -m kernel.build_program VARIANT`; prints what it did.

arm64's types are not at hand on another machine, so that variant swaps in the layout of its registers and only compiles.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from unittest import mock

from ringspan.probe import btf, child
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
SETTINGS = ProbeSettings(own_tgid=os.getpid())
VARIANTS = {
    "plain": SETTINGS,
    "server": replace(SETTINGS, role="server"),
    "client": replace(SETTINGS, role="client", ports=[80], pids=[1], by_executable=True),
    "as on an old kernel": SETTINGS,
    "arm64": SETTINGS,
}


def types_for(variant: str, types: btf.KernelTypes) -> btf.KernelTypes:
    if variant == "arm64":
        text, count = PT_REGS.subn(ARM64_REGISTERS, types.text)
        assert count == 1
        return btf.KernelTypes(text, types.flags)
    if variant == "as on an old kernel":
        layout = ("-DHAS_FILE_REF", "-DINODE_CTIME")
        return btf.KernelTypes(types.text, [flag for flag in types.flags if flag.startswith(layout)])
    return types


def main(variant: str) -> None:
    types = types_for(variant, btf.read_types())
    bcc = child.import_bcc()
    machine = {"x86_64": "RINGSPAN_X86_64"}
    if variant == "arm64":
        machine = {os.uname().machine: "RINGSPAN_ARM64"}
    with (
        mock.patch.object(btf, "read_types", lambda: types),
        mock.patch("ringspan.probe.settings.ARCHITECTURES", machine),
    ):
        program = child.compile_program(bcc, VARIANTS[variant])
    if variant == "arm64":
        print("compiled")
        return
    print(f"loaded {len(child.load_functions(bcc, program))}")


if __name__ == "__main__":
    main(sys.argv[1])
