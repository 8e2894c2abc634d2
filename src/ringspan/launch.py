"""From settings to a probe on its way: what the probe is told, and the child that compiles it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ringspan.probe.settings import ProbeSettings
from ringspan.probe.start import Start

if TYPE_CHECKING:
    from ringspan.config import Settings
    from ringspan.executables import Executables


def launch(settings: Settings, executables: Executables | None) -> Start:
    """Start compiling a probe for these settings."""
    told = ProbeSettings(
        own_tgid=os.getpid(),
        capture=settings.capture,
        role=settings.role,
        pids=settings.pid,
        ports=settings.port,
        by_executable=executables is not None,
        executables=executables.known() if executables else [],
        ring_bytes=settings.ring_bytes,
        connections=settings.connections,
        exchanges=settings.exchanges,
    )
    return Start(told)
