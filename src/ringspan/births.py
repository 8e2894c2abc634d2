"""Births: what exec left of a process, as the kernel had it, which the process itself cannot change."""

from __future__ import annotations

import os
from sys import getsizeof
from typing import Any, NamedTuple

from ringspan import contract
from ringspan.naming import Process, Who
from ringspan.rules import VARIABLES

TELLING = tuple(f"{name}=".encode() for name in VARIABLES)
OF_A_PROCESS = ("/proc/", "/dev/fd/", "/dev/std")  # names of what the process that says them has open
ARGUMENTS_MAX, ENVIRONMENT_MAX = (contract.number(name) for name in ("ARGUMENTS_MAX", "ENVIRONMENT_MAX"))


class Birth(NamedTuple):
    """What exec left of a process; of the environment only what tells. What it did before, it did as what it was."""

    arguments: bytes
    environment: bytes
    filename: str
    cgroup: int
    image: int  # tells this exec in all that run it (contract.h)
    since_ns: int  # when that was, by the clock of records
    is_cut: bool  # whether something was too long, or could not be read
    former: Birth | Who | None = None

    @property
    def size(self) -> int:
        """The bytes of its texts, and of what it was before."""
        of_former = self.former.size if self.former else 0
        return sum(map(getsizeof, (self.arguments, self.environment, self.filename))) + of_former


def telling(environment: bytes) -> bytes:
    """Return of an environment what names and rules go by: the rest may be long, and secret."""
    return b"\0".join(word for word in environment.split(b"\0") if word.startswith(TELLING))


def read(birth: Any, former: Birth | Who | None) -> Birth:
    """Read one (contract.h: struct birth)."""
    sizes = int(birth["arguments_bytes"]), int(birth["environment_bytes"])
    environment = birth["environment"].ljust(ENVIRONMENT_MAX, b"\0")[: sizes[1]]
    if sizes[1] == ENVIRONMENT_MAX:
        environment = environment.rpartition(b"\0")[0]  # half a value is another
    return Birth(
        birth["arguments"].ljust(sizes[0], b"\0")[: sizes[0]],
        telling(environment),
        birth["filename"].partition(b"\0")[0].decode(errors="replace"),
        int(birth["cgroup"]),
        int(birth["image"]),
        int(birth["ktime_ns"]),
        not all(sizes) or sizes[0] == ARGUMENTS_MAX or sizes[1] == ENVIRONMENT_MAX,
        former,
    )


def _executable(filename: str) -> str:
    """Return a name that exec was given, as it is: where its links lead, only the process that is gone could tell."""
    plain = os.path.normpath("/" + filename.lstrip("/")) if filename.startswith("/") else filename
    return "" if plain.startswith(OF_A_PROCESS) else filename


def alone(birth: Birth, cgroup: str) -> Process:
    """Return a process that is gone."""
    return Process(birth.arguments, birth.environment, cgroup, _executable(birth.filename))


def beside(birth: Birth, seen: Process) -> Process:
    """Return a process that lives: what exec told wins, since a process may write over what /proc shows.

    Where that was cut, /proc counts, as long as it goes on alike.
    """
    executable = seen.executable or _executable(birth.filename)
    if birth.is_cut and seen.arguments.startswith(birth.arguments):
        return seen._replace(executable=executable)
    return Process(birth.arguments, birth.environment, seen.cgroup, executable)
