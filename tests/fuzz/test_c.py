"""The C of bpf/ under the sanitizers: the corpus, then new inputs from it. Longer: scripts/fuzz c, or RINGSPAN_FUZZ_RUNS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fuzz.c import corpus
from fuzz.c.build import missing
from fuzz.c.run import fuzz

RUNS = int(os.environ.get("RINGSPAN_FUZZ_RUNS", "200000"))
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def check(done: subprocess.CompletedProcess[str]) -> None:
    """Pass on what was said of a failing input, and how to have it again."""
    if not done.returncode:
        return
    said = done.stderr.splitlines()
    written = [line.rpartition(" ")[2] for line in said if "Test unit written to" in line]
    again = f"scripts/fuzz c {Path(written[0])}" if written else "scripts/fuzz c"
    lines = [line for line in said if not line.startswith("#")]
    pytest.fail("\n".join([*lines[-60:], f"again by: {again}"]), pytrace=False)


def test_what_once_was_found_and_what_is_found_from_it(tmp_path: Path) -> None:
    corpus.unpack(tmp_path)
    check(fuzz("-seed=1", f"-runs={RUNS}", str(tmp_path), capture=True))


@pytest.mark.parametrize("file", [corpus.CORPUS, corpus.FAILED])
def test_the_corpus_is_in_order(file: Path) -> None:
    inputs = corpus.read(file)
    assert inputs == sorted(set(inputs), key=lambda one: (len(one), one))
    assert file.read_text() == "".join(f"{one!r}\n" for one in inputs)
