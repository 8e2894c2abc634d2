"""A service instance as an OpenTelemetry resource: the same attributes on its spans, its metrics and its JSON rows."""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ringspan import __version__

if TYPE_CHECKING:
    from ringspan.model import Identity

NAMESPACE = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")  # the conventions' own, for service.instance.id
MACHINE_ID = Path("/etc/machine-id")
OS_RELEASE = Path("/etc/os-release")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as host.arch spells them


@cache
def _given() -> dict[str, str]:
    """OTEL_RESOURCE_ATTRIBUTES of ringspan itself: true of all it reports, so of its host."""
    given = os.environb.get(b"OTEL_RESOURCE_ATTRIBUTES", b"").decode(errors="backslashreplace")
    pairs = (pair.partition("=") for pair in given.split(","))
    return {key.strip(): unquote(value.strip()) for key, equals, value in pairs if equals and key.strip()}


@cache
def _host() -> str:
    try:
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return os.uname().nodename


@cache
def _system() -> dict[str, str]:
    """Return what is true of this host, and of all services on it; what OTEL_RESOURCE_ATTRIBUTES says wins."""
    machine = os.uname().machine
    found = {
        "host.name": os.uname().nodename,
        "host.id": _host() if MACHINE_ID.exists() else "",
        "host.arch": ARCHITECTURES.get(machine, machine),
        "os.type": "linux",
        **_release(),
    }
    return {key: value for key, value in found.items() if value} | _given()


def _release() -> dict[str, str]:
    """Return the operating system's name and version, as os-release(5) has them."""
    try:
        lines = OS_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return {
        "os.name": found.get("NAME", ""),
        "os.version": found.get("VERSION_ID", ""),
        "os.description": found.get("PRETTY_NAME", ""),
    }


def attributes(identity: Identity) -> dict[str, str]:
    """Return the resource of a service on this host.

    service.instance.id is the same for all processes of one service, executable and container on one host: a thousand
    short-lived processes are one instance.
    """
    also = dict(identity.attributes)
    parts = (
        _host(),
        also.get("service.namespace"),
        identity.service_name,
        identity.executable,
        also.get("container.id"),
    )
    out = _system() | {"service.name": identity.service_name}
    out["service.instance.id"] = str(uuid.uuid5(NAMESPACE, "|".join(part or "" for part in parts)))
    if identity.executable:
        out["process.executable.path"] = identity.executable
        out["process.executable.name"] = identity.executable.rpartition("/")[2]
    return out | also | {"telemetry.distro.name": "ringspan", "telemetry.distro.version": __version__}


def own_attributes() -> dict[str, str]:
    """Return the resource of ringspan itself, named by its own OTEL_SERVICE_NAME if there is one."""
    name = (
        os.environb.get(b"OTEL_SERVICE_NAME", b"").decode(errors="backslashreplace")
        or _given().get("service.name")
        or "ringspan"
    )
    instance = str(uuid.uuid5(NAMESPACE, f"{_host()}|ringspan|{os.getpid()}"))
    return _system() | {"service.name": name, "service.instance.id": instance, "service.version": __version__}
