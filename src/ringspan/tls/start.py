"""The attaching process, from the consumer's side. Imports little: it is begun before the rest is imported."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

MESSAGE_BYTES = 1 << 16
LOOK_S, ATTACH_S, DETACH_S = 0.05, 10.0, 0.5
DETACHED = b"detached"
PROGRAMS = ("on_tls_", "on_go_")
log = logging.getLogger(__name__)


class TlsStart:
    """A process that looks for TLS libraries while the probe is being compiled, then attaches to them."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str], pids: Sequence[int], *, sandbox: bool) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "ringspan.tls.attacher", str(theirs.fileno())]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}  # secrets
        environment["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        told = {"include": list(include), "exclude": list(exclude), "pids": list(pids), "sandbox": sandbox}
        self._channel.send(json.dumps(told).encode())
        self.counts = {"attached": 0, "refused": 0, "changed": 0}
        self._ended = self._late = False

    def finish(self, programs: dict[str, int], stop: Callable[[], bool]) -> None:
        """Hand the programs over, and wait until they are attached."""
        mine = {name: fd for name, fd in programs.items() if name.startswith(PROGRAMS)}
        try:
            socket.send_fds(self._channel, [json.dumps(list(mine)).encode()], list(mine.values()))
            answer = self._receive(ATTACH_S, stop)
        except ConnectionError:
            answer = b""
        if answer:
            self.counts = json.loads(answer)
        elif self._process.poll() is not None:
            self._warn()
        elif not stop():
            self._late = True
            log.warning("TLS is not followed yet: to look through what runs here takes more than %g s", ATTACH_S)

    def check(self) -> None:
        """Take in what it has said; say so, once, if the process has ended by itself."""
        with suppress(ConnectionError):
            while select.select([self._channel], [], [], 0)[0] and (said := self._channel.recv(MESSAGE_BYTES)):
                self.counts = json.loads(said)
                if self._late:
                    self._late = False
                    log.warning("TLS is followed from now on")
        if not self._ended and self._process.poll() is not None:
            self._warn()

    def detach(self) -> None:
        """Have it detach and end; where that is slow (before Linux 6.6) it is not waited for."""
        with suppress(ConnectionError):
            self._channel.send(b".")
            while (said := self._receive(DETACH_S, lambda: False)) and said != DETACHED:
                self.counts = json.loads(said)
        self._channel.close()

    def cancel(self) -> None:
        """End it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _warn(self) -> None:
        self._ended = True
        status = self._process.returncode
        how = f"by signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"with status {status}"
        log.error("TLS is not followed any more: the process that attaches to TLS libraries has ended %s", how)

    def _receive(self, seconds: float, stop: Callable[[], bool]) -> bytes:
        for _ in range(int(seconds / LOOK_S)):
            if select.select([self._channel], [], [], LOOK_S)[0]:
                return self._channel.recv(MESSAGE_BYTES)
            if stop():
                break
        return b""
