"""Where a process runs, as far as its control group's path says: unit, container, runtime, pod."""

from __future__ import annotations

import re
from typing import NamedTuple

UNIT = re.compile(r"/([^/]+\.service)(?=/|$)", re.MULTILINE)
USERS = re.compile(r"user@\d+\.service")  # its units are a user's
ID = r"[0-9a-f]{64}"
# A container's own group: /ID, /RUNTIME-ID.scope (systemd), POD.slice:RUNTIME:ID (systemd's name by another driver).
CONTAINER = re.compile(rf"[/:](?:([a-z]+(?:-[a-z]+)*)[-:])?({ID})(?:\.scope)?(?=/|$)", re.MULTILINE)
UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"  # the latter of a static pod
POD = re.compile(rf"pod({UID})(?:\.slice)?(?=[/:]|$)", re.MULTILINE)
MONITOR = "conmon"  # watches a container of CRI-O or Podman from outside, in a group named like it
RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
}


class Placement(NamedTuple):
    """What a control group's path says; empty where it says nothing.

    `unit` is the host's own; `inner` is what a user's manager, a container's, or a service with groups of its own
    calls a group inside: a name, and no proof.
    """

    unit: str = ""
    container_id: str = ""
    runtime: str = ""
    pod_uid: str = ""
    inner: str = ""


def _units(cgroup: str, container: str) -> tuple[str, str]:
    """Return the host's unit, and one inside it or a container."""
    unit = inner = ""
    for line in cgroup.splitlines():
        above, _, below = line.partition(container) if container else (line, "", "")
        outer, *inside = UNIT.findall(above) or [""]
        unit = unit if not outer or USERS.fullmatch(outer) else outer
        inner = (UNIT.findall(below) or inside or [inner])[-1]
    return unit, inner


def placement(cgroup: str) -> Placement:
    """Read a path, or the lines of /proc/PID/cgroup (version 1 has one for each hierarchy); the innermost counts."""
    found = CONTAINER.findall(cgroup)
    prefix, container = found[-1] if found else ("", "")
    if prefix.endswith(MONITOR):
        container = prefix = ""
    pods = POD.findall(cgroup)
    runtime = RUNTIMES.get(prefix) or ("docker" if container and f"/docker/{container}" in cgroup else "")
    unit, inner = _units(cgroup, container)
    return Placement(unit, container, runtime, pods[-1].replace("_", "-") if pods else "", inner)
