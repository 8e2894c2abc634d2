"""What the attaching process does with files that strangers make: it waits for none, holds none for ever, forgets none."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringspan.tls import attacher as module
from ringspan.tls import followed, places
from ringspan.tls.attacher import Attacher, Watch
from ringspan.tls.bounded import open_file
from ringspan.tls.followed import ALL, File, Files, Found
from ringspan.tls.libraries import Mapped, Wanted
from ringspan.tls.mappings import Key, New
from ringspan.tls.places import Places

KEY = Key(0, 1, 2, 3)
HELD = Places(entries={1: 1})


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is taken for one that holds a TLS library."""
    monkeypatch.setattr(places, "find", lambda _fd: HELD)
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF")
    return path


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Nobody may open the file without whoever holds its lease."""
    with path.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        yield


def looks(files: Files, *exclude: str) -> Attacher:
    return Attacher(Wanted(exclude=exclude), files)


def follow(path: Path, files: Files) -> None:
    assert looks(files).look_into(str(path))
    assert len(files) == 1


def test_nothing_is_waited_for(tmp_path: Path, program: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a file"):
        open_file(str(tmp_path / "fifo"))
    with leased(program), pytest.raises(BlockingIOError):
        open_file(str(program))
    assert "not a file" in places.find_in(str(tmp_path / "fifo")).obstacle


def test_a_leased_file_is_looked_into_later(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, now = Files(), [100.0]
    monkeypatch.setattr("ringspan.tls.followed.time.monotonic", lambda: now[0])
    looking = looks(files)
    with leased(program):
        for wait in (0.0, 0.5, 1.0, 2.0):  # ever later
            now[0] += wait - 0.01
            looking.settle()
            now[0] += 0.01
            assert looking.look_into(str(program)) if not wait else True
            looking.settle()
            assert len(files) == 0
    now[0] += 4.0
    looking.settle()
    assert len(files) == 1


def test_no_more_files_are_put_off_than_there_is_room_for() -> None:
    files = Files()
    for number in range(followed.DEFERRED_MAX + 3):
        files.defer(Found(f"/{number}", f"/{number}", ALL))
    assert files.refused == 3


def test_a_file_is_followed_once_whatever_is_done_to_its_name(program: Path) -> None:
    files = Files()
    follow(program, files)
    program.chmod(0o755)
    os.link(program, program.with_name("other"))
    assert looks(files).look_into(str(program))
    assert looks(files).look_into(str(program.with_name("other")))
    assert len(files) == 1


def test_one_that_is_let_go_of_is_found_again_without_its_user(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, descriptors = Files(), len(list(Path("/proc/self/fd").iterdir()))
    follow(program, files)
    inode = program.stat().st_ino
    monkeypatch.setattr(files._guards, "broken", lambda: [one.fd for one in files._followed.values()])
    files.let_go()
    monkeypatch.setattr(files._guards, "broken", list)
    assert (len(files), files.changed) == (0, 1)
    program.unlink()
    monkeypatch.setattr(followed, "SETTLE_S", 0.0)
    files._unsettled = [one._replace(due=0.0) for one in files._unsettled]
    for found, path in files.settle():
        assert found.name == str(program)
        assert os.stat(path).st_ino == inode  # noqa: PTH116
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_deleted_files_are_forgotten_once_nobody_has_them(program: Path) -> None:
    files = Files()
    follow(program, files)
    inode = program.stat().st_ino
    files.forget(set(), set())
    assert len(files) == 1
    assert not files.may_forget()
    program.unlink()
    assert files.may_forget()
    files.forget({inode}, set())
    assert len(files) == 1
    files.forget(set(), set())
    assert len(files) == 0


def test_where_there_is_no_room_those_are_forgotten_that_nobody_has(program: Path) -> None:
    files = Files()
    follow(program, files)
    files.full = True
    files.forget(set(), {str(program)})
    assert (len(files), files.full) == (1, False)
    files.full = True
    files.forget(set(), set())
    assert len(files) == 0


def test_a_file_is_excluded_by_any_of_its_paths(program: Path) -> None:
    link = program.with_name("link")
    link.symlink_to(program)
    for path in (program, link):
        files = Files()
        assert looks(files, str(path)).look_into(str(link))
        assert len(files) == 0


def test_a_process_that_is_gone_hides_nothing_from_the_next(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files()
    told = [
        New(Mapped(1 << 22, "/nowhere/program", program.stat().st_ino), KEY),
        New(Mapped(os.getpid(), str(program), program.stat().st_ino), KEY),
    ]

    class Told:
        lost = False

        def __init__(self, told: select.epoll) -> None:
            pass

        def take(self) -> list[New]:
            return [told.pop(0)]

    monkeypatch.setattr(module, "Mappings", Told)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch = Watch(looks(files), ours)
        watch.look()
        assert len(files) == 0
        watch.look()
        assert len(files) == 1


def test_the_same_number_on_another_device_is_another_file(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two file systems of which one was cloned from the other."""
    looked: list[Mapped] = []
    both = [Mapped(1, "/lib/libssl.so.3", 3, device) for device in (b"00:28", b"00:29", b"00:28")]
    looking = looks(Files())
    monkeypatch.setattr(module.libraries, "running", lambda: iter(both))
    monkeypatch.setattr(module.libraries, "cached", list)
    monkeypatch.setattr(looking, "look_into_mapped", looked.append)
    looking.look_at_all()
    assert looked == both[:2]


def test_what_is_followed_is_told_by_its_content_too(program: Path) -> None:
    with program.open("rb") as file:
        before = File.of(file.fileno())
        program.chmod(0o700)
        after = File.of(file.fileno())
    assert before != after
    assert before.place == after.place
