"""Builds the fuzzer of the C in bpf/, with the sanitizers; needs clang with its runtime libraries."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from ringspan.files import bpf_folder
from ringspan.protocols import http1
from unit.harness import cache_folder

HERE = Path(__file__).parent
FLAGS = [
    "-std=gnu11", "-O2", "-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror",
    "-Wno-sign-compare", "-Wno-unused", "-Wno-unused-parameter", "-Wno-unknown-pragmas", "-Wno-missing-field-initializers",
    "-Wno-pointer-sign",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
    "-fno-sanitize=alignment",  # words are loaded from anywhere, on purpose
    "-fno-sanitize-coverage=trace-cmp",  # half of the time, for what the dictionary does as well
]  # fmt: skip


def table_header() -> str:
    """Return the automaton's table as a C array."""
    return f"static const unsigned char TABLE[] = {{{','.join(map(str, http1.table()))}}};\n"


def _digest() -> str:
    sources = sorted([*bpf_folder().glob("*.[hc]"), *HERE.glob("*.[hc]")])
    texts = [" ".join(FLAGS), http1.c_header(), *(path.read_text() for path in sources)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def missing() -> str:
    """What is needed to build it and is not here; empty if nothing."""
    if not shutil.which("clang"):
        return "no clang (Debian: clang, libclang-rt-dev)"
    found = subprocess.run(
        ["clang", "-print-file-name=libclang_rt.fuzzer-x86_64.a"], capture_output=True, text=True, check=True
    )
    runtime = subprocess.run(["clang", "-print-resource-dir"], capture_output=True, text=True, check=True)
    here = [Path(found.stdout.strip()), *Path(runtime.stdout.strip()).rglob("libclang_rt.fuzzer*.a")]
    return "" if any(path.exists() for path in here) else "clang has no libFuzzer (Debian: libclang-rt-dev)"


def build() -> Path:
    """Compile the fuzzer, unless that was done before, and return its path."""
    target = cache_folder() / f"fuzz-{_digest()}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        Path(folder, "http1_states.h").write_text(http1.c_header())
        Path(folder, "table.h").write_text(table_header())
        built = Path(folder, target.name)
        include = [flag for path in (folder, HERE, bpf_folder()) for flag in ("-I", str(path))]
        subprocess.run(["clang", *FLAGS, *include, str(HERE / "http1.c"), "-o", str(built)], check=True)
        built.replace(target)
    return target
