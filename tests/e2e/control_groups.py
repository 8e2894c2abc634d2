"""Control groups that are named like a container's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def group_root() -> Path:
    """Where control groups of version 2 are."""
    roots = [
        root for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")) if (root / "cgroup.procs").exists()
    ]
    if not roots:
        pytest.skip("needs control groups of version 2")
    return roots[0]


@contextmanager
def entered(container: str) -> Iterator[Callable[[list[str]], list[str]]]:
    """A container's group, which is removed when it is empty: makes a command one that runs in it."""
    group = group_root() / f"docker-{container}.scope"
    group.mkdir()
    try:
        yield lambda command: ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"', *command]
    finally:
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.02)
