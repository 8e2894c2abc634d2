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


def attributes(identity: Identity) -> dict[str, str]:
    """Return the resource of a service on this host.

    service.instance.id is the same for all processes of one service and executable on one host: a thousand short-lived
    processes are one instance.
    """
    instance = f"{_host()}|{identity.service_name}|{identity.executable or ''}"
    out = {"host.name": os.uname().nodename, "os.type": "linux"} | _given()
    out["service.name"] = identity.service_name
    out["service.instance.id"] = str(uuid.uuid5(NAMESPACE, instance))
    if identity.executable:
        out["process.executable.path"] = identity.executable
    return out | {"telemetry.distro.name": "ringspan", "telemetry.distro.version": __version__}


def own_attributes() -> dict[str, str]:
    """Return the resource of ringspan itself, named by its own OTEL_SERVICE_NAME if there is one."""
    name = (
        os.environb.get(b"OTEL_SERVICE_NAME", b"").decode(errors="backslashreplace")
        or _given().get("service.name")
        or "ringspan"
    )
    out = {"host.name": os.uname().nodename, "os.type": "linux"} | _given()
    instance = str(uuid.uuid5(NAMESPACE, f"{_host()}|ringspan|{os.getpid()}"))
    return out | {"service.name": name, "service.instance.id": instance, "service.version": __version__}
