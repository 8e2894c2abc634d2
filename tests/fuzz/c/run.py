"""Runs the fuzzer of the C in bpf/: for ever, for RUNS or SECONDSs, on one FILE that failed, or to `minimise` the corpus."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from fuzz.c import corpus  # noqa: E402
from fuzz.c.build import build, missing  # noqa: E402
from unit.harness import cache_folder  # noqa: E402

INPUT_MAX = 512
CORPUS_BYTES_MAX = 100_000
# Each input is a heap block of its own; remembering where it came from takes longer than running it.
ENVIRONMENT = {"ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def work_folder() -> Path:
    """Return the folder where a long run keeps what it finds: found/ and failed/."""
    folder = cache_folder() / "fuzz-c"
    for name in ("found", "failed"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def fuzz(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run libFuzzer with these arguments after those that are always given."""
    always = [
        f"-max_len={INPUT_MAX}", f"-dict={HERE / 'http1.dict'}", f"-artifact_prefix={work_folder() / 'failed'}/",
        "-print_funcs=0", "-print_pcs=0", "-reload=0", "-entropic=0", "-timeout=10",
        # The peak that it would limit is inherited from whoever starts it (ru_maxrss outlives exec).
        "-rss_limit_mb=0", "-malloc_limit_mb=256",
    ]  # fmt: skip
    return subprocess.run(
        [str(build()), *always, *arguments],
        env=os.environ | ENVIRONMENT,
        capture_output=capture,
        text=True,
        check=False,
    )


def run(limit: str) -> int:
    """Fuzz from all that is known; new inputs are kept for the next run."""
    with tempfile.TemporaryDirectory() as known:
        corpus.unpack(Path(known))
        bound = f"-max_total_time={limit[:-1]}" if limit.endswith("s") else f"-runs={limit}"
        status = fuzz(bound, str(work_folder() / "found"), known).returncode
    if status:
        print(f"failed: see above; again by: scripts/fuzz c {work_folder() / 'failed'}/crash-...", file=sys.stderr)
    return status


def minimise() -> int:
    """Make the corpus of what was found and what it was: the smallest inputs that reach as much, as far as they fit."""
    with tempfile.TemporaryDirectory() as folder:
        known, merged = Path(folder, "known"), Path(folder, "merged")
        corpus.unpack(known)
        merged.mkdir()
        done = fuzz("-set_cover_merge=1", str(merged), str(known), str(work_folder() / "found"))
        kept: list[bytes] = []
        for one in sorted(corpus.files(merged), key=len):
            if sum(len(repr(other)) + 1 for other in [*kept, one]) <= CORPUS_BYTES_MAX:
                kept.append(one)
        corpus.write(kept)
    return done.returncode


def main(argument: str = "-1") -> int:
    """Do what the command line asks for."""
    if reason := missing():
        print(reason, file=sys.stderr)
        return 3
    if argument == "minimise":
        return minimise()
    if Path(argument).is_file():
        return fuzz(argument).returncode
    return run(argument)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
