"""What other people's processes say of themselves: command lines, environments, control groups."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ringspan import command_line, executables
from ringspan.cgroups import Cgroups
from ringspan.naming import Process, identity_of
from ringspan.process import TICK_NS, has_begun_at

from .records import check_identity
from .source import Source

PROGRAMS = (b"python3", b"java", b"/usr/bin/node", b"bash", b"deno", b"php8.2", b"", b"a\xffb", b"./x")
WORDS = (b"-m", b"-jar", b"-c", b"--", b"-", b"run", b"app.py", b"a.b.Main", b"m/c", b"-cp", b"@f", b"--module", b"")
ENVIRONMENT = (b"OTEL_SERVICE_NAME=", b"OTEL_RESOURCE_ATTRIBUTES=service.name=", b"OTEL_RESOURCE_ATTRIBUTES=", b"A=")
STAT: list[Path] = []


def check_process(data: bytes) -> int:
    """Whatever a process says, it has a name that can be sent."""
    source = Source(data)
    words = [source.choice(PROGRAMS)]
    for _ in range(source.byte() % 6):
        pick = source.byte()
        words.append(WORDS[pick % len(WORDS)] if pick < 0xC0 else source.piece())
    arguments = b"\0".join(words) + b"\0" * (source.byte() & 1)
    name = command_line.name(arguments)
    assert name is None or isinstance(name, str)
    environment = source.choice(ENVIRONMENT) + source.piece()
    cgroup, path = source.text(), source.text().replace("\0", "") or "x"
    check_identity(identity_of(Process(arguments, environment, f"0::/system.slice/{cgroup}.service\n", path)))
    check_identity(identity_of(Process(arguments, b"", "", path)))
    executables.Executables(["*a*", "/usr/*"]).wants(path)
    return 1


def check_stat(data: bytes) -> int:
    """The times of a process, whose name may hold anything (it stands in the same line)."""
    if not STAT:
        STAT.append(Path(tempfile.mkdtemp(prefix="stat-")))
    comm = data[:15].replace(b"\0", b"").replace(b"\n", b"")
    fields = b" ".join(b"%d" % n for n in range(4, 53))
    (STAT[0] / "stat").write_bytes(b"77 (" + comm + b") S " + fields + b"\n")
    assert has_begun_at(STAT[0], 22 * TICK_NS)
    return 1


def check_cgroups(data: bytes) -> int:
    """Folders of any name are found by their number, and their names can be sent."""
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "cgroup.controllers").touch()
        name = data.replace(b"\0", b"").replace(b"/", b"")[:200] or b"a"
        folder = os.fsencode(root) + b"/" + (b"x" + name)
        os.mkdir(folder)  # noqa: PTH102
        found = Cgroups((Path(root),)).path(os.stat(folder).st_ino)  # noqa: PTH116
        assert found.startswith("/x")
        check_identity(identity_of(Process(b"", b"", f"/{found}.service", "exe")))
    return 1
