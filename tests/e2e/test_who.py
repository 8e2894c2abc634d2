"""Processes that make one request and are gone within milliseconds: each span is of the right service."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from . import hasty
from .control_groups import entered
from .numbered import answering, number_of
from .tracer import Row, trace

pytestmark = pytest.mark.root
RULES = [
    {"match": {"exe": "beta"}, "set": {"service.name": "renamed"}},
    {"match": {"container": "c" * 12}, "set": {"service.name": "boxed"}},
]
SAYS = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=web"}
# Serves what it begins, in namespaces of its own.
WITHIN = """
import fcntl, socket, struct, subprocess, sys, threading
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS: up
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
def serve():
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
threading.Thread(target=serve).start()
subprocess.run(sys.argv[1:], check=True)
"""
Told = dict[str, str]


class Cases:
    """Runs programs, and keeps what is to be told of each."""

    def __init__(self, programs: list[Path], port: int) -> None:
        self._alpha, self._beta = map(str, programs)
        self._port = str(port)
        self.want: list[Told] = []

    def command(self, want: Told, *way: str, program: str = "") -> list[str]:
        self.want.append(want)
        return [program or self._alpha, self._port, str(len(self.want) - 1), *way]

    def plain(self) -> None:
        subprocess.run(self.command({"service.name": "alpha"}), check=True)
        subprocess.run(self.command({"service.name": "renamed"}, program=self._beta), check=True)
        command = self.command({"service.name": "alpha"})
        subprocess.run(["python3", *command[1:]], executable=self._alpha, check=True)

    def forked(self) -> None:
        """... or titled: what exec told is no longer in /proc."""
        for way in ("", "forked", "thread", "grandchild", "orphan", "titled"):
            command = self.command({"service.name": "shop", "service.namespace": "web"}, way)
            subprocess.run(command, check=True, env=SAYS)

    def restarted(self) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        for name in ("first", "second", "first", "third"):
            command = self.command({"service.name": name})
            assert hasty.run_as(gone.pid, command, {"OTEL_SERVICE_NAME": name}) == 0

    def contained(self) -> None:
        """In containers that are new, one soon after the other; in namespaces of their own; renamed by a rule."""
        for digit in "1234":
            with entered(digit * 64) as enter:
                subprocess.run(enter(self.command({"service.name": "alpha", "container.id": digit * 64})), check=True)
                time.sleep(0.05)
        with entered("c" * 64) as enter:
            subprocess.run(enter(self.command({"service.name": "boxed", "container.id": "c" * 64})), check=True)
            subprocess.run(
                enter(self.command({"service.name": "boxed", "service.namespace": "web"}, "orphan")),
                env=os.environ | SAYS,
                check=True,
            )
            time.sleep(0.05)
        with entered("d" * 64) as enter:
            unshare = ["unshare", "--pid", "--mount", "--net", "--fork", sys.executable, "-c", WITHIN]
            told = {"service.name": "alpha", "container.id": "d" * 64, "container.runtime.name": "docker"}
            subprocess.run(enter([*unshare, *self.command(told)]), check=True)
            time.sleep(0.05)


WAYS: dict[str, Callable[[Cases], None]] = {
    "plain": Cases.plain, "forked": Cases.forked, "restarted": Cases.restarted, "contained": Cases.contained,
}  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return hasty.programs(tmp_path_factory.mktemp("programs"))


@pytest.mark.parametrize("way", WAYS)
def test_each_span_is_of_the_right_service(tmp_path: Path, programs: list[Path], way: str) -> None:
    config = tmp_path / "ringspan.yaml"
    config.write_text(yaml.safe_dump({"rules": RULES}))
    with answering() as port, trace("--port", str(port), "--role", "client", "--config", str(config)) as tracer:
        cases = Cases(programs, port)
        WAYS[way](cases)
        rows = tracer.rows(len(cases.want))
        ended = tracer.stop()

    def told(row: Row) -> Told:
        return {key: row["resource"].get(key, "") for key in cases.want[number_of(row)]}

    assert sorted(map(number_of, rows)) == list(range(len(cases.want)))
    assert {number_of(row): told(row) for row in rows} == dict(enumerate(cases.want))
    assert "container or unit may be missed" not in ended.ledger
