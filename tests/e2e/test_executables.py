"""--exe: files that take each other's place, and processes that take each other's number."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ringspan import executables
from ringspan.probe import maps
from ringspan.process import TICK_NS

from .peer import Place
from .raw import accepted, listening, recv, recv_any_end, send, take
from .stage import Ports
from .tracer import trace

pytestmark = pytest.mark.root
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def fetch(program: Path, place: Place, path: str) -> None:
    """One request, by a copy of bash, which lives on until its record has been read."""
    script = f"exec 3<>/dev/tcp/127.0.0.1/{place.port}; printf 'GET {path} HTTP/1.1\\r\\n\\r\\n' >&3; while read -ru 3 l && [ ${{#l}} -gt 1 ]; do :; done; read -t 0.5"

    def answer() -> None:
        peer = accepted(listener, place)
        take(peer, [recv(1), send(ANSWER)])
        recv_any_end(peer)

    with listening(place) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        held, other_end = os.pipe()
        subprocess.run([program, "-c", script], stdin=held, check=False)
        thread.join(10)
        os.close(held)
        os.close(other_end)


def test_a_verdict_does_not_outlive_the_file_it_was_about(ports: Ports, tmp_path: Path) -> None:
    """The inode stays, the name goes: what was not asked for is, and the other way round."""
    wanted, other, place = tmp_path / "asked-for", tmp_path / "another", Place("v4", ports.take())
    shutil.copy("/bin/bash", other)
    with trace("--exe", str(wanted), "--port", str(place.port), "--role", "client") as tracer:
        for name in ("/another-1", "/another-2", "/another-3"):  # the first is judged when its record comes
            fetch(other, place, name)
            time.sleep(0.1)
        other.rename(wanted)
        fetch(wanted, place, "/asked-for")
        time.sleep(0.2)
        wanted.rename(other)
        fetch(other, place, "/another-4")
        rows = tracer.rows(1)
        ended = tracer.stop()
    assert [row["attributes"]["url.full"].rpartition("/")[2] for row in rows] == ["asked-for"]
    assert "off by" not in ended.ledger


def test_a_process_is_not_judged_by_another_that_has_its_number(tmp_path: Path) -> None:
    judge, began = (
        executables.Executables(["python*"]),
        int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]),
    )
    told: list[tuple[bytes, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "update", lambda _fd, key, value: told.append((key, value)))
        assert judge.judge_process(os.getpid(), began * TICK_NS, "python3", 0)
        assert not judge.judge_process(os.getpid(), (began - 1) * TICK_NS, "curl", 0)
    assert [value for _, value in told] == [b"\1"]


def test_a_full_table_of_verdicts_is_emptied(tmp_path: Path) -> None:
    judge, table = executables.Executables(["python*"]), {bytes([n]): b"\1" for n in range(3)}
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) * TICK_NS

    def update(_fd: int, key: bytes, value: bytes) -> None:
        if len(table) >= 3 and key not in table:
            raise OSError(7, "Argument list too long")
        table[key] = value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "update", update)
        patch.setattr(maps, "clear", lambda *_: table.clear())
        assert judge.judge_process(os.getpid(), began, "python3", 0)
    assert (judge.emptied, list(table.values())) == (1, [b"\1"])
