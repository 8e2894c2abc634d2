"""What a process is called, and what else is true of all it does, by what tells: environment, cgroup, words."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from sys import getsizeof
from typing import NamedTuple
from urllib.parse import unquote

from ringspan import command_line
from ringspan.containers import Placement, placement
from ringspan.directory.keep import Directories
from ringspan.model import Identity
from ringspan.rules import VARIABLES, Facts, Rule

NAME_MAX, PATH_MAX = 255, 4096  # they go out with every metric
NO_NAMES = Directories()
NAMELESS = "unknown_service"  # as the SDKs say
# Of OTEL_RESOURCE_ATTRIBUTES of a process, what says who it is; how many and how long is bounded.
DECLARED = ("service.", "deployment.", "k8s.", "container.")
DECLARED_MAX, KEY_MAX = 16, 100
WORDS_MAX, PLACES_MAX = 4096, 256
# Units that containers run under, and which are not what runs in them.
RUNTIME_UNITS = {
    "containerd", "cri-docker", "crio", "docker", "k3s", "k3s-agent", "kubelet", "podman", "rke2-agent", "rke2-server",
}  # fmt: skip


TRANSIENT = re.compile(r"run-(?:[ur][0-9a-f]+|p\d+-i\d+)")  # units of systemd-run, each of a name of its own


class Process(NamedTuple):
    """What tells who a process is; arguments and environment as in /proc, each ended by NUL."""

    arguments: bytes
    environment: bytes
    cgroup: str
    executable: str


def variables(process: Process) -> dict[str, str]:
    """Return the environment by name."""
    words = process.environment.decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in words if "=" in pair)


def _declared(environment: dict[str, str]) -> dict[str, str]:
    """Return what OTEL_RESOURCE_ATTRIBUTES says, and OTEL_SERVICE_NAME, which wins, as in the SDKs."""
    pairs = (pair.partition("=") for pair in environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    found = {key.strip(): unquote(value.strip()) for key, equals, value in pairs if equals}
    if environment.get("OTEL_SERVICE_NAME"):
        found["service.name"] = environment["OTEL_SERVICE_NAME"]
    return {key: value for key, value in found.items() if value and key.startswith(DECLARED) and len(key) <= KEY_MAX}


def _unit(place: Placement) -> str:
    name = place.unit.removesuffix(".service")
    return "" if place.container_id and name in RUNTIME_UNITS else name


def _is_lasting(unit: str) -> bool:
    return bool(unit) and not TRANSIENT.fullmatch(unit)


def _placed(place: Placement) -> dict[str, str]:
    """Return the attributes of a place."""
    found = {
        "ringspan.systemd.unit": f"{_unit(place)}.service" if _unit(place) else "",
        "container.id": place.container_id,
        "container.runtime.name": place.runtime,
        "k8s.pod.uid": place.pod_uid,
    }
    return {key: value for key, value in found.items() if value}


def identity_of(process: Process, directories: Directories = NO_NAMES) -> Identity:
    """Name a process by the first source that knows."""
    declared, place = _declared(variables(process)), placement(process.cgroup)
    told = directories.get(place.pod_uid, place.container_id)
    name: str | None = declared.pop("service.name", "") or told.pop("service.name", "")
    name = name or next((one for one in (place.inner.removesuffix(".service"), _unit(place)) if _is_lasting(one)), "")
    name = name or command_line.name(process.arguments, process.executable) or Path(process.executable).name
    name = name or command_line.program(process.arguments) or NAMELESS
    of_service = {key: value for key, value in told.items() if key.startswith("service.")}
    # What a process says of its service counts, and of where it is what is seen.
    also = of_service | dict(list(declared.items())[:DECLARED_MAX]) | _placed(place)
    also |= {key: value for key, value in told.items() if key not in of_service}
    return Identity(
        sendable(name[:NAME_MAX]),
        sendable(process.executable[:PATH_MAX]) or None,
        tuple(sorted((sendable(key), sendable(value[:NAME_MAX])) for key, value in also.items())),
    )


def facts_of(process: Process) -> Facts:
    """Return what rules can know of a process."""
    place = placement(process.cgroup)
    return Facts(
        exe=process.executable,
        command_line=process.arguments[:WORDS_MAX].decode(errors="replace").rstrip("\0").replace("\0", " "),
        cgroup="\n".join(line.split(":", 2)[-1] for line in process.cgroup.splitlines()),
        unit=place.unit,
        container=place.container_id,
        environment={name: value for name, value in variables(process).items() if name in VARIABLES},
    )


class Who:
    """A process as it is known: its identity, and the rules whose conditions on a process it meets."""

    def __init__(self, identity: Identity, rules: tuple[Rule, ...] = ()) -> None:
        self.identity = identity
        texts = (identity.service_name, identity.executable, *chain.from_iterable(identity.attributes))
        self.size = sum(map(getsizeof, texts))
        self.deciding = tuple(rule for rule in rules if rule.decides)
        self._naming = tuple(rule for rule in rules if rule.attributes)
        self._ports = frozenset[int]().union(*(rule.ports for rule in self._naming))
        self._named: dict[tuple[str, int], Identity] = {}

    def at(self, role: str, port: int) -> Identity:
        """Return what it is called where it serves or calls."""
        if not self._naming:
            return self.identity
        port = port if port in self._ports else 0  # all others are alike
        known = self._named.get((role, port))
        if known is None:
            known = self._renamed([rule for rule in self._naming if rule.is_at(role, port)])
            if len(self._named) < PLACES_MAX:
                self._named[role, port] = known
        return known

    def _renamed(self, rules: list[Rule]) -> Identity:
        """Return the identity with what rules set; of two that set the same, the first wins."""
        found = dict(self.identity.attributes)
        for rule in reversed(rules):
            found |= dict(rule.attributes)
        name = found.pop("service.name", self.identity.service_name)
        return Identity(name, self.identity.executable, tuple(sorted(found.items())))


def who_is(process: Process, rules: tuple[Rule, ...], directories: Directories = NO_NAMES) -> Who:
    """Name a process, and find the rules that are about it."""
    facts = facts_of(process) if rules else None
    return Who(identity_of(process, directories), tuple(rule for rule in rules if facts and rule.is_of(facts)))


def sendable(text: str) -> str:
    """Make a text valid Unicode: a file's name may be any bytes, and one such would spoil a whole report of metrics."""
    return text.encode(errors="replace").decode()
