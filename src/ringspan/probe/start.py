"""The compiling child, from the consumer's side: start it, approve of its layout, receive its descriptors.

Imports little, so that the child is at work while the rest of the consumer is still being imported.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringspan.errors import CannotTrace
from ringspan.probe import tree

if TYPE_CHECKING:
    from ringspan.probe.session import Probe
    from ringspan.probe.settings import ProbeSettings

MESSAGE_BYTES = 1 << 16
DESCRIPTORS = 250  # SCM_MAX_FD of net/scm.h is 253
LOOK_S = 0.05
HANDED = ("maps", "links", "functions")


class Start:
    """A probe that is being compiled, while the consumer does other things."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "ringspan.probe.child", str(theirs.fileno()), str(os.getpid())]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}  # secrets
        environment["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        told = settings.to_json().encode()
        for at in range(0, len(told), MESSAGE_BYTES // 2):
            self._channel.send(told[at : at + MESSAGE_BYTES // 2])
        self._channel.send(b".")

    def finish(self, stop: Callable[[], bool]) -> Probe | None:
        """Wait for the child; returns the attached probe, or None if stop() came first; raises CannotTrace."""
        from ringspan.probe.session import Chosen, Probe, check_layout  # noqa: PLC0415

        try:
            answer = self._receive(stop)
            while answer and (layout := answer[0].get("layout")):  # of each capture that is tried
                check_layout(layout)
                with suppress(BrokenPipeError):  # it has ended: what it said is read next
                    self._channel.send(b"+")
                answer = self._receive(stop)
        finally:
            self.cancel()
        if not answer:
            return None
        message, fds = answer
        handed = iter(fds)
        maps_, links, functions = ({name: next(handed) for name in message[kind]} for kind in HANDED)
        chosen = Chosen(**message["capture"])
        return Probe(maps_, links, functions, message["connection_bytes"], chosen)

    def cancel(self) -> None:
        """End the child, whatever it is doing."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._said.close()
        tree.remove_of(os.getpid())

    def _last_words(self) -> str:
        """Return why the child, which has ended, has ended: its error, or the signal that ended it."""
        lines = os.pread(self._said.fileno(), MESSAGE_BYTES, 0).decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        if not errors and self._process.returncode < 0:
            return signal.strsignal(-self._process.returncode) or "by a signal"
        return next(iter(errors), lines[-1] if lines else "no message")

    def _receive(self, stop: Callable[[], bool]) -> tuple[dict[str, Any], list[int]] | None:
        while not select.select([self._channel], [], [], LOOK_S)[0]:
            if stop():
                return None
        try:
            data, fds, *_ = socket.recv_fds(self._channel, MESSAGE_BYTES, DESCRIPTORS)
        except ConnectionResetError:  # it has ended with something of ours unread
            data, fds = b"", []
        if not data:
            self._process.wait()
            raise CannotTrace(f"the compiling process ended early: {self._last_words()}", "see ringspan doctor")
        message = json.loads(data)
        if "reason" in message:
            raise CannotTrace(message["reason"], message["remedy"])
        while len(fds) < sum(len(message.get(kind, ())) for kind in HANDED):
            fds += socket.recv_fds(self._channel, 1, DESCRIPTORS)[1]
        return message, fds
