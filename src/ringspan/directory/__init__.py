"""What ids stand for: names of containers and pods, asked of who runs them, on this host, if the settings say so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ringspan import trusted
from ringspan.directory.keep import Directories, Directory

if TYPE_CHECKING:
    from ringspan.config import Settings

UNIX, FILE_MAX = "unix://", 1 << 20


def chosen(settings: Settings) -> Directories:
    """Return what the settings name, not yet begun; what a kubelet says wins; raises UsageError."""
    found: list[Directory] = []
    if settings.container_runtime:
        from ringspan.directory import runtime  # noqa: PLC0415 - loaded if asked for: they take some 10 ms

        found.append(runtime.directory(settings.container_runtime.removeprefix(UNIX)))
    if settings.kubelet:
        from ringspan.directory import kubelet  # noqa: PLC0415

        token = _readable("kubelet_token", settings.kubelet_token)
        authorities = _readable("kubelet_ca", settings.kubelet_ca)
        found.append(kubelet.directory(kubelet.Kubelet(settings.kubelet, token, authorities)))
    return Directories(found)


def _readable(setting: str, given: str | None) -> Path | None:
    """Return a file that was named, if root may trust it; raises UsageError."""
    if given is None:
        return None
    trusted.read(given, FILE_MAX, f"{setting}: {given}")
    return Path(given)
