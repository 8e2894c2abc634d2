"""Real clients: ``run("curl", server.url, plan)`` or, step by step, ``start_client``."""

from __future__ import annotations

import base64
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from . import process
from .build import SOURCES, PeerUnavailable, ensure
from .command_line import COMMANDS, Seen
from .load import rate_run, wrk_run
from .plan import Call, Result

__all__ = ["CLIENTS", "Call", "Client", "ClientFailed", "PeerUnavailable", "Result"]
__all__ += ["can_upload_chunked", "rate_run", "run", "start_client", "wrk_run"]

PLAN_SECONDS = 120.0

# Programs that read plans from standard input; the words are their command lines.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "requests": ("{program}", "{src}/python/requests_client.py"),
    "aiohttp": ("{program}", "{src}/python/aiohttp_client.py"),
    "go": ("{program}/go-client",),
    "node": ("{program}", "{src}/node/client.js"),
    "java": ("java", "-cp", "{program}", "Client"),
}
CLIENTS = (*COMMANDS, *PROGRAMS)


class ClientFailed(Exception):
    """The client itself broke; a failed request is a Result with status 0 instead."""


class Client(ABC):
    """A started client that has sent nothing yet; leaving its ``with`` block ends it."""

    def __init__(self, name: str, url: str, plan: Sequence[Call]) -> None:
        self.name, self.url, self.plan = name, url, list(plan)
        self.program = ensure(name)
        self._temporary = tempfile.TemporaryDirectory(prefix="ringspan-peer-")
        self.folder = Path(self._temporary.name)
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that sends the next request."""
        return self._started().pid

    @abstractmethod
    def go(self, plan: Sequence[Call] | None = None) -> list[Result]:
        """Sends the plan it was started with, or another one; in the plan's order."""

    def close(self) -> None:
        self._end_child()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self.child is None:
            raise ValueError(f"{self.name} has no request left to send")
        return self.child

    def _start_child(self, argv: list[str]) -> None:
        with (self.folder / "stderr").open("wb") as errors:
            self.child = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=process.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def _end_child(self) -> None:
        """Lets the child see the end of its input, then ends it if it is still there."""
        child, self.child = self.child, None
        if child is None:
            return
        with suppress(OSError):
            _pipe(child.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(process.STOP_SECONDS)
        process.stop(child)
        _pipe(child.stdout).close()

    def _errors(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    def _failure(self) -> ClientFailed:
        return ClientFailed(f"{self.name}: {self._errors()[-2000:]}")

    def _results(self, calls: list[Call], seen: list[Seen]) -> list[Result]:
        pairs = zip(calls, seen, strict=True)
        return [Result(call.method, call.path, *one, self.pid) for call, one in pairs]


class ProgramClient(Client):
    """One process for every plan it is given, so connections stay open between them."""

    def __init__(self, name: str, url: str, plan: Sequence[Call]) -> None:
        super().__init__(name, url, plan)
        known = {"program": self.program, "src": SOURCES}
        self._start_child([word.format(**known) for word in PROGRAMS[name]])

    def go(self, plan: Sequence[Call] | None = None) -> list[Result]:
        calls = self.plan if plan is None else list(plan)
        lines = "".join(_line(self.url, call) for call in calls)
        timer = threading.Timer(PLAN_SECONDS, self._started().kill)
        timer.start()
        try:
            return self._results(calls, self._exchange(lines + "\n", len(calls)))
        except OSError as error:
            raise self._failure() from error
        finally:
            timer.cancel()

    def _exchange(self, lines: str, count: int) -> list[Seen]:
        child = self._started()
        _pipe(child.stdin).write(lines.encode())
        _pipe(child.stdin).flush()
        seen: list[Seen] = []
        while len(seen) < count:
            words = _pipe(child.stdout).readline().split()
            if not words:
                raise self._failure()
            seen.append((int(words[0]), int(words[1])))
        return seen


class CommandClient(Client):
    """curl or wget: a process for each batch, the next one started before it is needed."""

    def __init__(self, name: str, url: str, plan: Sequence[Call]) -> None:
        super().__init__(name, url, plan)
        self.command = COMMANDS[name]
        self._prepare(self.plan)

    def go(self, plan: Sequence[Call] | None = None) -> list[Result]:
        if plan is not None or self.child is None:
            self._prepare(self.plan if plan is None else list(plan))
        results: list[Result] = []
        while self._batches:
            results += self._send(self._batches.pop(0))
            self._start_next()
        return results

    def _prepare(self, plan: list[Call]) -> None:
        if any(call.chunked for call in plan) and not can_upload_chunked(self.name):
            raise ValueError(f"{self.name} cannot send a chunked body")
        self._batches = self.command.batches(plan)
        self._start_next()

    def _start_next(self) -> None:
        self._end_child()
        if self._batches:
            self._start_child(self.command.argv(self.program, self._batches[0], self.folder))

    def _send(self, batch: list[Call]) -> list[Result]:
        fed = self.command.stdin(self.url, batch, self.folder)
        output, _ = self._started().communicate(fed.encode(), timeout=PLAN_SECONDS)
        seen = self.command.parse(output, self._errors())
        if len(seen) != len(batch):
            raise self._failure()
        return self._results(batch, seen)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "every client is started with pipes"
    return pipe


def can_upload_chunked(name: str) -> bool:
    return name != "wget"


def run(name: str, server_url: str, plan: Sequence[Call]) -> list[Result]:
    """Sends the plan; the results are in the plan's order."""
    with start_client(name, server_url, plan) as client:
        return client.go()


def start_client(name: str, url: str, plan: Sequence[Call]) -> Client:
    """Starts a client that waits for ``go()``; to be used in a ``with`` block."""
    kind = CommandClient if name in COMMANDS else ProgramClient
    return kind(name, url, plan)


def _line(url: str, call: Call) -> str:
    """A call as the client programs read it: fields parted by tabs."""
    body = "-" if call.body is None else base64.b64encode(call.body).decode()
    framing = "chunked" if call.chunked else "sized"
    headers = [f"{name}: {value}" for name, value in call.plain_headers.items()]
    return "\t".join([call.method, url + call.path, body, framing, *headers]) + "\n"
