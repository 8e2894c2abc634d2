"""The corpus: one input a line, as Python writes bytes, so that it can be read, compared and added to by hand."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CORPUS = Path(__file__).with_name("corpus.txt")


def read() -> list[bytes]:
    """Return the inputs."""
    return [ast.literal_eval(line) for line in CORPUS.read_text().splitlines()]


def write(inputs: Iterable[bytes]) -> None:
    """Put inputs in the place of what the corpus was."""
    CORPUS.write_text("".join(f"{one!r}\n" for one in sorted(inputs, key=lambda one: (len(one), one))))


def unpack(folder: Path) -> None:
    """Write each input to a file of its own, as libFuzzer wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in read():
        (folder / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)


def files(folder: Path) -> Iterator[bytes]:
    """Return what is in a folder."""
    return (path.read_bytes() for path in sorted(folder.iterdir()))
