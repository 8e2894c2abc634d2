"""HTTP answers that have an end: in bytes and in seconds, whatever they are made of.

requests limits each read; neither it nor http.client limits interim answers, trailers, or bytes that come one by one.
"""

from __future__ import annotations

import http.client
import io
import time
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import socket

ALL_MAX = 2 << 20


class _Reader(io.RawIOBase):
    """What a socket receives: an end of file after so many bytes, TimeoutError once its own time-out has passed."""

    def __init__(self, sock: socket.socket) -> None:
        self._from: Any = sock.makefile("rb", 0)
        self._left = ALL_MAX
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, room: Any) -> int | None:
        """Read once."""
        if time.monotonic() > self._end:
            raise TimeoutError
        count: int | None = self._from.readinto(memoryview(room)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._from.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *rest: Any, **named: Any) -> None:
        super().__init__(sock, *rest, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock))


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS = {"http": _Pool, "https": _SecurePool}


class Adapter(HTTPAdapter):
    """For a session of requests: through proxies too."""

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        """Make what makes connections."""
        super().init_poolmanager(*given, **named)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *given: Any, **named: Any) -> Any:
        """Make what makes connections through a proxy."""
        manager = super().proxy_manager_for(*given, **named)
        manager.pool_classes_by_scheme = POOLS
        return manager
