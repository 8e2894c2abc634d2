"""Where a process runs, as far as its control group's path says: unit, container, runtime, pod."""

from __future__ import annotations

import re
from typing import NamedTuple

UNIT = re.compile(r"/([^/]+\.service)(?:/|$)", re.MULTILINE)
NOT_A_SERVICE = re.compile(r"user@\d+|session-|init\.scope")
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
    """What a control group's path says; empty where it says nothing."""

    unit: str = ""
    container_id: str = ""
    runtime: str = ""
    pod_uid: str = ""


def placement(cgroup: str) -> Placement:
    """Read a path, or the lines of /proc/PID/cgroup (version 1 has one for each hierarchy); the innermost counts."""
    units = [unit for unit in UNIT.findall(cgroup) if not NOT_A_SERVICE.search(unit)]
    found = CONTAINER.findall(cgroup)
    prefix, container = found[-1] if found else ("", "")
    if prefix.endswith(MONITOR):
        container = prefix = ""
    pods = POD.findall(cgroup)
    runtime = RUNTIMES.get(prefix) or ("docker" if container and f"/docker/{container}" in cgroup else "")
    return Placement(units[-1] if units else "", container, runtime, pods[-1].replace("_", "-") if pods else "")
