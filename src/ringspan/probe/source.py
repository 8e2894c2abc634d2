"""The BPF program as the one text that BCC wants: it rewrites map accesses only in its main file."""

from __future__ import annotations

import re
from pathlib import Path

from ringspan.files import bpf_folder
from ringspan.protocols import http1

GENERATED = {"http1_states.h": http1.c_header}
INCLUDE = re.compile(r'#include "([^"]+)"')


def assemble(name: str, folder: Path | None = None, seen: set[str] | None = None) -> str:
    """Return a source with its own includes in place, each once, and #line marks for error messages."""
    folder, seen = folder or bpf_folder(), seen if seen is not None else set()
    seen.add(name)
    text = GENERATED[name]() if name in GENERATED else (folder / name).read_text()
    out = [f'#line 1 "{name}"']
    for i, line in enumerate(text.splitlines(), start=1):
        include = INCLUDE.match(line)
        if include:
            if include[1] not in seen:
                out.append(assemble(include[1], folder, seen))
            out.append(f'#line {i + 1} "{name}"')
        else:
            out.append("" if line.startswith("#pragma once") else line)
    return "\n".join(out)
