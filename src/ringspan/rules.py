"""Rules: what is to be done with the exchanges of some processes, ports or paths; checked and compiled."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from ringspan import values
from ringspan.errors import UsageError

RULES_MAX, ATTRIBUTES_MAX, VALUE_MAX = 256, 32, 255
PORT = (1, 65535, int)
SHARE = (0, 1, float)
ROLES = ("server", "client")
KEYS = ("name", "match", "set", "drop", "sample", "traces")
# Of other variables nothing is kept, or ever copied from the kernel: they hold passwords.
VARIABLES = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
OF_PROCESS = ("exe", "command_line", "cgroup", "unit", "container")  # globs; `environment` is one for each variable
MATCH = (*OF_PROCESS, "environment", "port", "role", "path")
SETTABLE = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
PATH = re.compile(r"[/*?\[]")  # how a glob of paths begins
OURS = ("telemetry.", "ringspan.")


class Facts(NamedTuple):
    """What rules can know of a process."""

    exe: str
    command_line: str
    cgroup: str
    unit: str
    container: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Rule:
    """One rule; all its conditions must hold, and of each one glob or port of those given."""

    name: str
    globs: tuple[tuple[str, re.Pattern[str]], ...] = ()  # of OF_PROCESS
    variables: tuple[tuple[str, re.Pattern[str]], ...] = ()
    ports: frozenset[int] = frozenset()
    role: str = ""
    path: re.Pattern[str] | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    drop: bool | None = None  # what it does not say is None
    share: float | None = None  # of traces that are kept

    @property
    def decides(self) -> bool:
        """Whether it is about what is kept, not about what it is called."""
        return self.drop is not None or self.share is not None

    def is_of(self, facts: Facts) -> bool:
        """Whether all that it asks of a process holds."""
        if not all(_holds(key, pattern, getattr(facts, key)) for key, pattern in self.globs):
            return False
        found = facts.environment
        return all(name in found and pattern.fullmatch(found[name]) for name, pattern in self.variables)

    def is_at(self, role: str, port: int) -> bool:
        """Whether all that it asks of a connection holds; the port is the server's."""
        return (not self.ports or port in self.ports) and (not self.role or role == self.role)


def _holds(key: str, pattern: re.Pattern[str], text: str) -> bool:
    """Match a text; of an executable its name alone will do, of a unit that without its suffix, of cgroups any line."""
    texts = [text]
    if key == "exe":
        texts.append(text.rsplit("/", 1)[-1])
    elif key == "unit":
        texts.append(text.removesuffix(".service"))
    elif key == "cgroup":
        texts = text.split("\n")
    return any(pattern.fullmatch(one) for one in texts if one)


def _glob(given: Any, where: str, ending: str = "") -> re.Pattern[str]:
    """Compile one glob, or a list of which any will do."""
    globs = [values.text(one, where) for one in values.sequence(given, RULES_MAX, where)]
    if not globs:
        raise UsageError(f"{where}: an empty list matches nothing")
    return re.compile("|".join(f"(?:{fnmatch.translate(glob + ending)})" for glob in globs), re.DOTALL)


def _path(given: Any, where: str) -> re.Pattern[str]:
    for one in values.sequence(given, RULES_MAX, where):
        if not PATH.match(values.text(one, where)):
            raise UsageError(f"{where}: {values.shown(one)} matches no path", "paths begin with /")
    return _glob(given, where)


def name_by_port(rules: tuple[Rule, ...]) -> bool:
    """Whether a process may be called otherwise on another port."""
    return any(rule.attributes and rule.ports for rule in rules)


def parse(given: list[Any], where: str) -> tuple[Rule, ...]:
    """Compile rules; raises UsageError that says which is wrong."""
    if len(given) > RULES_MAX:
        raise UsageError(f"{where}: {len(given)} of them, {RULES_MAX} is the most")
    rules = tuple(_rule(one, number, f"{where} {number}") for number, one in enumerate(given, 1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}: two are named {values.shown(twice)}", "the ledger counts by name")
    return rules


def _rule(given: Any, number: int, where: str) -> Rule:
    given = values.mapping(given, KEYS, where)
    if not {"set", "drop", "sample", "traces"} & given.keys():
        raise UsageError(f"{where}: it does nothing", "give it set, drop, sample or traces")
    match = values.mapping(given.get("match", {}), MATCH, f"{where}: match")
    empty = next((key for key, value in match.items() if value in (None, [], {}, "")), None)
    if empty:
        raise UsageError(f"{where}: {empty} is empty, and would match all", "leave it out if that is meant")
    attributes = _attributes(given.get("set") or {}, f"{where}: set")
    if attributes and "path" in match:
        raise UsageError(f"{where}: set names a service, and a path does not tell one", "match what tells the process")
    drop = values.switch(given["drop"], f"{where}: drop") if "drop" in given else None
    name = values.text(given.get("name", str(number)), f"{where}: name")[:60]
    conditions = _conditions(match, f"{where}: match")
    return Rule(name, **conditions, attributes=attributes, drop=drop, share=_share(given, where))


def _share(given: dict[str, Any], where: str) -> float | None:
    """Return what sample and traces say, which are of the same: how many traces are kept."""
    if not {"sample", "traces"} & given.keys():
        return None
    share: float = values.number(given.get("sample", 1.0), SHARE, f"{where}: sample")
    return share * values.switch(given.get("traces", True), f"{where}: traces")


def _conditions(match: dict[str, Any], where: str) -> dict[str, Any]:
    environment = _environment(match.get("environment", {}), f"{where}: environment")
    ports = values.sequence(match.get("port"), RULES_MAX, f"{where}: port")
    role = match.get("role")
    return {
        "globs": tuple(
            (key, _glob(match[key], f"{where}: {key}", "*" if key == "container" else ""))  # an id's beginning will do
            for key in OF_PROCESS
            if key in match
        ),
        "variables": tuple((key, _glob(one, f"{where}: {key}")) for key, one in environment.items()),
        "ports": frozenset(values.number(port, PORT, f"{where}: port") for port in ports),
        "role": values.choice(role, ROLES, f"{where}: role") if role is not None else "",
        "path": _path(match["path"], f"{where}: path") if "path" in match else None,
    }


def _environment(given: Any, where: str) -> dict[str, Any]:
    other = next((key for key in given if key not in VARIABLES), None) if isinstance(given, dict) else None
    if other is not None:
        reason = "no other variable of a process is kept, since they hold passwords"
        raise UsageError(f"{where}: {values.shown(other)} is not one of {', '.join(VARIABLES)}", reason)
    return values.mapping(given, VARIABLES, where)


def _attributes(given: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, dict) or len(given) > ATTRIBUTES_MAX:
        raise UsageError(f"{where}: {values.shown(given)} is not a mapping of at most {ATTRIBUTES_MAX} attributes")
    for key in given:
        if not isinstance(key, str) or not SETTABLE.fullmatch(key) or key.startswith(OURS):
            raise UsageError(
                f"{where}: {values.shown(key)} is not an attribute that can be set", "such as service.name"
            )
    return tuple((key, _sendable(values.text(value, f"{where}: {key}"))) for key, value in given.items())


def _sendable(text: str) -> str:
    return text[:VALUE_MAX].encode(errors="replace").decode()
