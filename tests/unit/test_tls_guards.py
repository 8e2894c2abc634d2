"""What tells that a file is about to be written to."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ringspan.tls.guards import Guards

WRITE = "import sys; open(sys.argv[1], sys.argv[2]).write('other')"


def begin_to_write(path: Path, how: str = "w") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITE, str(path), how])


def wait_broken(guards: Guards, seconds: float = 5.0) -> list[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := guards.broken():
            return found
        time.sleep(0.005)
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("text")
    return tmp_path / "file"


@pytest.mark.parametrize("how", ["w", "a", "r+"])
def test_a_writer_waits_until_the_file_is_let_go(path: Path, how: str) -> None:
    guards, fd = Guards(), os.open(path, os.O_RDONLY)
    guards.add(fd)
    with begin_to_write(path, how) as writer:
        assert wait_broken(guards) == [fd]
        assert path.read_text() == "text"
        guards.remove(fd)
        assert writer.wait(10) == 0
    assert "other" in path.read_text()
    assert guards.broken() == []
    os.close(fd)


def test_a_file_that_is_cut_short(path: Path) -> None:
    guards, fd = Guards(), os.open(path, os.O_RDONLY)
    guards.add(fd)
    with subprocess.Popen([sys.executable, "-c", f"import os; os.truncate({str(path)!r}, 0)"]):
        assert wait_broken(guards) == [fd]
        assert path.read_text() == "text"
        guards.remove(fd)
    os.close(fd)


def test_what_is_being_written_is_not_guarded_yet(path: Path) -> None:
    guards, fd = Guards(), os.open(path, os.O_RDONLY)
    with path.open("a"), pytest.raises(BlockingIOError):
        guards.add(fd)
    guards.add(fd)
    os.close(fd)


def test_reading_renaming_and_removing_break_nothing(path: Path) -> None:
    guards, fd = Guards(), os.open(path, os.O_RDONLY)
    guards.add(fd)
    assert path.read_text() == "text"
    (path.parent / "other").write_text("other")
    (path.parent / "other").rename(path)
    path.unlink()
    assert wait_broken(guards, 0.2) == []
    os.close(fd)


def test_where_there_are_no_leases_a_change_is_told_after_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def refuse(fd: int, command: int, *more: int) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(22, "Invalid argument")
        return int(real(fd, command, *more))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    guards, fd = Guards(), os.open(path, os.O_RDONLY)
    guards.add(fd)
    assert guards.broken() == []
    with begin_to_write(path) as writer:
        assert writer.wait(10) == 0
    assert wait_broken(guards) == [fd]
    guards.remove(fd)
    path.write_text("again")
    assert wait_broken(guards, 0.2) == []
    os.close(fd)
