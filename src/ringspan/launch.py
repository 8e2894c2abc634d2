"""From settings to a probe on its way: what the probe is told, and the child that compiles it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ringspan import pid_namespace
from ringspan.probe.settings import ProbeSettings
from ringspan.probe.start import Start
from ringspan.tls.start import TlsStart

if TYPE_CHECKING:
    from ringspan.config import Settings
    from ringspan.executables import Executables


class Starts(NamedTuple):
    """What is begun before the consumer gives up its privileges."""

    probe: Start
    tls: TlsStart | None

    def cancel(self) -> None:
        """End it."""
        self.probe.cancel()
        if self.tls:
            self.tls.cancel()


def launch(settings: Settings, executables: Executables | None) -> Starts:
    """Start compiling a probe for these settings, and looking for TLS libraries."""
    tls = None
    if settings.tls != "off":
        tls = TlsStart(settings.tls_include, settings.tls_exclude, settings.pid, sandbox=settings.sandbox)
    told = ProbeSettings(
        own_tgid=pid_namespace.own_number(),
        own_namespace=pid_namespace.hidden_from(),
        capture=settings.capture,
        role=settings.role,
        pids=settings.pid,
        ports=settings.port,
        by_executable=executables is not None,
        executables=executables.known() if executables else [],
        ring_bytes=settings.ring_bytes,
        connections=settings.connections,
        exchanges=settings.exchanges,
        follow_tls=tls is not None,
        joins=settings.joins,
        client_from=settings.client_from if settings.trusted_proxies else "",
    )
    return Starts(Start(told), tls)
