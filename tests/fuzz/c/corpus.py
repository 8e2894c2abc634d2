"""The corpus: one input a line, as Python writes bytes, so that it can be read, compared and added to by hand.

corpus.txt reaches what was reached, and is written anew by `minimise`; in failed.txt stands what once has failed.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CORPUS, FAILED = (Path(__file__).with_name(name) for name in ("corpus.txt", "failed.txt"))


def read(file: Path) -> list[bytes]:
    """Return the inputs of a file."""
    return [ast.literal_eval(line) for line in file.read_text().splitlines()]


def write(inputs: Iterable[bytes]) -> None:
    """Put inputs in the place of what the corpus was."""
    CORPUS.write_text("".join(f"{one!r}\n" for one in sorted(inputs, key=lambda one: (len(one), one))))


def unpack(folder: Path) -> None:
    """Write each input to a file of its own, as libFuzzer wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in (*read(CORPUS), *read(FAILED)):
        (folder / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)


def files(folder: Path) -> Iterator[bytes]:
    """Return what is in a folder."""
    return (path.read_bytes() for path in sorted(folder.iterdir()))
