"""Fuzz the Python side with atheris (libFuzzer): run.py [60 | 60s | 100000r] [check ...]; for each check so long, or often.

Corpus, log, and totals over all runs (executions, and records or the like) stay in the tests' cache, fuzz/NAME. The modules
in $RINGSPAN_FUZZ_GUIDED_BY guide it, all of ringspan if there is none: fewer are guided by less, and run twice as often. Ends with
1 if a check failed (its input is kept there), 3 where there is no atheris for this Python.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
EVERY, WRITE_S = 64, 5.0
SECONDS = "60s"


def folder(name: str) -> Path:
    cache = os.environ.get("RINGSPAN_TEST_CACHE") or Path.home() / ".cache" / "ringspan-tests"
    return Path(cache) / "fuzz" / name


class Totals:
    """How often and how much was checked, over all runs; on disk, so that it can be read meanwhile."""

    def __init__(self, name: str) -> None:
        self._path = folder(name) / "total.json"
        before = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._sums = {"executions": 0, "checked": 0, "seconds": 0.0} | before
        self._since = time.monotonic()

    def add(self, checked: int) -> None:
        self._sums["executions"] += 1
        self._sums["checked"] += checked
        if self._sums["executions"] % EVERY == 0 and time.monotonic() - self._since > WRITE_S:
            self.write()

    def write(self) -> None:
        now = time.monotonic()
        self._sums["seconds"] += now - self._since
        self._since = now
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(self._sums) + "\n")
        scratch.replace(self._path)


def fuzz(name: str, flags: list[str]) -> None:
    """Fuzz one check in this process, which libFuzzer ends."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]
    import atheris  # noqa: PLC0415

    guiding = os.environ.get("RINGSPAN_FUZZ_GUIDED_BY", "ringspan").split()
    with atheris.instrument_imports(include=guiding, enable_loader_override=False):
        from fuzz.python.checks import CHECKS  # noqa: PLC0415

    check, totals = CHECKS[name], Totals(name)
    corpus = folder(name) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(check.seeds):
        (corpus / f"seed-{i}").write_bytes(seed)

    def one(data: bytes) -> None:
        totals.add(check.function(data))

    options = [f"-max_len={check.bytes_max}", f"-artifact_prefix={folder(name)}/", "-timeout=30", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, *flags, str(corpus)], one)
    try:
        atheris.Fuzz()
    finally:
        totals.write()


def run(name: str, flags: list[str]) -> int:
    """Fuzz one check in a process of its own; says how it went."""
    folder(name).mkdir(parents=True, exist_ok=True)
    log = folder(name) / "log"
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch, log.open("wb") as file:
        command = [sys.executable, __file__, "--one", name, *flags]
        surroundings = os.environ | {"TMPDIR": scratch}
        status = subprocess.run(command, stdout=file, stderr=file, env=surroundings, check=False).returncode
    totals = json.loads((folder(name) / "total.json").read_text()) if (folder(name) / "total.json").exists() else {}
    done = re.findall(r"Done (\d+) runs in (\d+) second", log.read_text(errors="replace"))
    said = f"{int(done[0][0]):,} runs in {done[0][1]} s" if done and not status else f"FAILED, see {log}"
    print(
        f"{name}: {said}; in all {totals.get('executions', 0):,} executions, {totals.get('checked', 0):,} checked",
        flush=True,
    )
    if status:
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-25:]))
    return status


def main() -> int:
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
        return 0
    if not importlib.util.find_spec("atheris"):
        print("no atheris for this Python: pip install '.[fuzz]' (its wheels are for x86_64)", file=sys.stderr)
        return 3
    amount = re.fullmatch(r"(\d+)([sr]?)", sys.argv[1] if len(sys.argv) > 1 else SECONDS)
    if not amount:
        print(__doc__, file=sys.stderr)
        return 2
    flags = [f"-runs={amount[1]}"] if amount[2] == "r" else [f"-max_total_time={amount[1]}"]
    if os.environ.get("RINGSPAN_FUZZ_SEED"):
        flags.append(f"-seed={os.environ['RINGSPAN_FUZZ_SEED']}")
    sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]
    from fuzz.python.checks import CHECKS  # noqa: PLC0415

    failed = [name for name in sys.argv[2:] or CHECKS if run(name, flags)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
