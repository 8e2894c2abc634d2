"""Servers that ask another one for what they are asked for: ``with start("gunicorn", upstream.address) as relay: ...``."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import process
from .build import SOURCES, artifact

HOST = "127.0.0.1"
PYTHON = SOURCES / "python"
Argv = Callable[[int, str, Path], list[str]]


@dataclass(frozen=True)
class Relay:
    """A running relay."""

    port: int
    leader: int

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Its live processes, as of now."""
        return process.session_pids(self.leader)


def _gunicorn(*flags: str) -> Argv:
    def argv(port: int, upstream: str, _folder: Path) -> list[str]:
        command = [str(artifact("venv")), "-m", "gunicorn", *flags, "--no-control-socket", "--backlog", "512"]
        command += ["--keep-alive", "60", "--graceful-timeout", "1", "--bind", f"{HOST}:{port}"]
        return [*command, "--env", f"UPSTREAM=http://{upstream}", "--pythonpath", str(PYTHON), "relay_wsgi:app"]

    return argv


def _nginx(site: str, workers: int) -> Argv:
    def argv(port: int, upstream: str, folder: Path) -> list[str]:
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        for source, target in (("nginx.conf", "nginx.conf"), (site, "site.conf")):
            text = (SOURCES / "nginx" / source).read_text().replace("worker_processes 2", f"worker_processes {workers}")
            text = text.replace("{user}", user).replace("{dir}", str(folder))
            (folder / target).write_text(text.replace("{port}", str(port)).replace("{upstream}", upstream))
        return [str(artifact("nginx")), "-e", str(folder / "error.log"), "-p", str(folder), "-c", "nginx.conf"]

    return argv


def _program(recipe: str, *words: str) -> Argv:
    """A command line in which {program}, {src}, {port} and {upstream} are filled in."""

    def argv(port: int, upstream: str, _folder: Path) -> list[str]:
        known = {"program": artifact(recipe), "src": SOURCES, "port": port, "upstream": upstream}
        return [word.format(**known) for word in words]

    return argv


RELAYS: dict[str, Argv] = {
    "gunicorn-threads": _gunicorn("--workers", "2", "--threads", "16"),
    "gunicorn-sync": _gunicorn("--workers", "4"),
    "gunicorn-one": _gunicorn("--workers", "1"),
    "java": _program("java", "java", "-cp", "{program}", "Relay", "{port}", "http://{upstream}"),
    "nginx": _nginx("relay.conf", 2),
    "nginx-one": _nginx("relay.conf", 1),
    "node": _program("node", "{program}", "{src}/node/relay.js", "{port}", "http://{upstream}"),
    "asyncio": _program("python", "{program}", "{src}/python/relay_asyncio.py", "{port}", "http://{upstream}"),
    "asyncio-ticking": _program(
        "python", "env", "TICK_MS=2", "{program}", "{src}/python/relay_asyncio.py", "{port}", "http://{upstream}"
    ),
    "go": _program("go", "{program}/go-relay", "{port}", "http://{upstream}"),
    **{
        way: _program("python", "{program}", "{src}/python/odd_relay.py", "{port}", "{upstream}", way)
        for way in (
            "handed_over",
            "in_stages",
            "selecting",
            "before_and_after",
            "with_background",
            "pooling",
            "in_batches",
            "in_batches_unblocked",
            "reading_ahead",
            "in_pairs",
        )
    },
    "upstream": _nginx("upstream.conf", 1),
}


@contextmanager
def start(name: str, upstream: str = "") -> Iterator[Relay]:
    """Runs one on a free port of loopback until the block ends."""
    with tempfile.TemporaryDirectory(prefix="ringspan-peer-") as folder:
        port, log = process.free_port(), Path(folder, "output.log")
        child = process.spawn(RELAYS[name](port, upstream, Path(folder)), Path(folder), log)
        try:
            there = process.wait_until(lambda: process.connectable((HOST, port)), process.START_SECONDS)
            if not there:
                raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            yield Relay(port, child.pid)
        finally:
            process.stop(child)
