"""Telling systemd that capture has begun (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def open_channel() -> socket.socket | None:
    """Open the socket on which systemd is told (sd_notify); None elsewhere. The sandbox opens no other of its kind."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        channel.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
    except OSError as error:
        log.warning("NOTIFY_SOCKET %s cannot be told: %s", address, error.strerror)
        channel.close()
        return None
    return channel


def ready(channel: socket.socket | None) -> None:
    """Tell systemd that capture has begun."""
    if not channel:
        return
    with channel:
        try:
            channel.send(b"READY=1")
        except OSError as error:
            log.warning("NOTIFY_SOCKET cannot be told: %s", error.strerror)
