"""Runs `ringspan trace --show json` as a subprocess, and reads its rows as they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOURCES = Path(__file__).parents[2] / "src"
SLOWNESS = float(os.environ.get("RINGSPAN_TEST_SLOWNESS", "1"))  # of an emulated machine
READY_SECONDS = 60.0 * SLOWNESS
STOP_SECONDS = 10.0 * SLOWNESS
CAPTURE = os.environ.get("RINGSPAN_TEST_CAPTURE", "auto")
SETTLE_SECONDS = 0.5  # two flushes and more: whatever comes later was not meant to come
Row = dict[str, Any]


def in_guest() -> str:
    """Where a guest of the kernel lab, in which nothing else runs, leaves its results; empty elsewhere."""
    return os.environ.get("LAB_JOB", "")


class TracerError(Exception):
    """The tracer did not become ready, or its output is not what was agreed upon."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: the rows that came after the signal, and what it said on stderr."""

    status: int
    seconds: float
    rows: list[Row]
    ledger: str


@dataclass(frozen=True)
class How:
    """What runs it: a command that runs a command, a Python, and where that one finds modules beside its own."""

    launcher: Sequence[str] = ()
    interpreter: str = sys.executable
    paths: Sequence[str] = ()


def anything(_row: Row) -> bool:
    return True


class Tracer:
    """One run of the tracer."""

    def __init__(self, *args: str, run: How) -> None:
        path = os.pathsep.join(filter(None, [str(SOURCES), *run.paths, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [
                *run.launcher,
                run.interpreter,
                "-m",
                "ringspan.cli",
                "trace",
                "--show",
                "json",
                "--capture",
                CAPTURE,
                *args,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._changed = threading.Condition()
        self._ready = False
        self._lines: list[str] = []
        self._rows: list[Row] = []
        self._errors: list[str] = []
        self._readers = [
            self._follow(self._process.stdout, self._take_row),
            self._follow(self._process.stderr, self._take_error),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def capture(self) -> str:
        """The capture that the ready line names."""
        return self.ready_line().split()[2]

    def ready_line(self) -> str:
        """What it said as it began to capture."""
        return next(line for line in self._errors if line.startswith("ready: capture "))

    def wait_ready(self) -> None:
        """Returns once capture has begun; raises TracerError with stderr if it does not."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self._readers[1].is_alive(), READY_SECONDS)
        if not self._ready:
            self.kill()
            raise TracerError(f"the tracer did not become ready; its stderr:\n{''.join(self._errors)}")

    def rows(
        self, expect: int = 0, timeout: float = 5.0 * SLOWNESS, where: Callable[[Row], bool] = anything
    ) -> list[Row]:
        """Waits for so many rows, or for the timeout; then a while longer, so that surplus ones are seen too."""
        end = time.monotonic() + timeout
        while len(self._matching(where)) < expect and time.monotonic() < end:
            with self._changed:  # not at each row: there may be thousands
                self._changed.wait(0.05)
            time.sleep(0.02 * SLOWNESS)
        time.sleep(SETTLE_SECONDS)
        self.check_alive()
        return self._matching(where)

    def wait_for_rows(self, total: int, timeout: float) -> None:
        """Waits until so many rows have come in all, or for the timeout."""
        end = time.monotonic() + timeout
        while self.count() < total and time.monotonic() < end:
            time.sleep(0.05)

    def check_alive(self) -> None:
        """Raises TracerError with stderr if the tracer has ended by itself."""
        if self._process.poll() not in (None, 0):
            self._readers[1].join(STOP_SECONDS)
            raise TracerError(f"the tracer ended with {self._process.returncode}:\n{''.join(self._errors)}")

    def all_rows(self) -> list[Row]:
        """All rows that came so far."""
        return list(self._rows)

    def count(self) -> int:
        """How many rows came so far."""
        return len(self._rows)

    def errors(self) -> list[str]:
        """The lines of stderr so far."""
        return list(self._errors)

    def stdout(self) -> str:
        """All that was printed so far."""
        return "".join(self._lines)

    def stop(self) -> Ended:
        """Interrupts the tracer, as Ctrl-C would, and waits for its end."""
        before, began = len(self._rows), time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(STOP_SECONDS)
        finally:
            self.kill()
        seconds = time.monotonic() - began
        for reader in self._readers:
            reader.join(STOP_SECONDS)
        return Ended(
            status, seconds, self._rows[before:], "".join(line for line in self._errors if line[:5] != "ready")
        )

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _matching(self, where: Callable[[Row], bool]) -> list[Row]:
        return [row for row in self.all_rows() if where(row)]

    def _follow(self, stream: IO[str] | None, take: Callable[[str], None]) -> threading.Thread:
        def read() -> None:
            for line in stream or ():
                with self._changed:
                    take(line)
                    self._changed.notify_all()
            with self._changed:
                self._changed.notify_all()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _take_row(self, line: str) -> None:
        self._lines.append(line)
        self._rows.append(json.loads(line))

    def _take_error(self, line: str) -> None:
        self._errors.append(line)
        self._ready = self._ready or line.startswith("ready")


@contextmanager
def trace(*args: str, run: How = How()) -> Iterator[Tracer]:
    """A tracer that captures; it is ended in any case."""
    tracer = Tracer(*args, run=run)
    try:
        tracer.wait_ready()
        yield tracer
    finally:
        tracer.kill()


def for_ports(ports: list[int]) -> list[str]:
    """The flags that ask for these server ports only."""
    return [flag for port in ports for flag in ("--port", str(port))]
