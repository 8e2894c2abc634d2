"""Faults by a random schedule: who plays, and what befalls them. Every request has a tag."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import build, process, servers
from peers.servers import Server

from .collector import Collector, collector, free_port
from .rude import RawClients, Tags

SEGMENT_SECONDS = 4
STEADY = {"nginx": (1200, 16), "http.server": (200, 8)}  # requests a second, connections
BURST_CONNECTIONS = 16
PATHS = ("/id/{}?t={}", "/api/users?t={1}", "/missing/{}?t={}", "/boom?t={1}", "/empty?t={1}")
BURST = """
local number, burst, threads = 0, "{burst}", 0
function setup(thread) thread:set("id", threads); threads = threads + 1 end
function request()
  number = number + 1
  return wrk.format("GET", "/id/7?t=" .. burst .. "-" .. id .. "-" .. number)
end
function response()
  if number >= 4000 then wrk.thread:stop() end
end
"""


class Lives:
    """A collector that ends and begins anew on its port; what each life got is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_port(), free_port()
        self._stack = ExitStack()
        self.lives: list[Collector] = []
        self.interrupted_seconds: list[float] = []
        self.begin()

    @property
    def url(self) -> str:
        return self.lives[0].url("grpc")

    def begin(self) -> None:
        folder = self._folder / f"collector-{len(self.lives)}"
        folder.mkdir()
        self.lives.append(self._stack.enter_context(collector(folder, *self._ports)))

    def end(self) -> None:
        self._stack.close()

    def restart(self, seconds: float) -> None:
        self.end()
        time.sleep(seconds)
        self.begin()
        self.interrupted_seconds.append(seconds)

    def hang(self, seconds: float) -> None:
        pid = self.lives[-1].pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        self.interrupted_seconds.append(seconds)

    def span_ids(self) -> Counter[str]:
        return Counter(span["spanId"] for life in self.lives for span, _ in life.spans(0, timeout=0))


class Clients:
    """Load by processes of which any may be killed at any time."""

    def __init__(self, tags: Tags, folder: Path, chance: random.Random) -> None:
        self._tags, self._folder, self._chance = tags, folder, chance
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._bursts = itertools.count()
        self.burst_requests = 0
        self.killed = 0

    def steady(self, server: Server) -> None:
        """One vegeta, at its server's rate for some seconds."""
        rate, connections = STEADY[server.name]
        numbers = range(rate * SEGMENT_SECONDS)
        paths = [PATHS[number % len(PATHS)].format(number % 1000, self._tags.take()) for number in numbers]
        targets = self._folder / f"targets-{server.port}"
        targets.write_text("".join(f"GET {server.url}{path}\n\n" for path in paths))
        sizes = [f"-rate={rate}/1s", f"-duration={SEGMENT_SECONDS}s", f"-max-connections={connections}"]
        sizes += [f"-connections={connections}", f"-workers={connections}", "-http2=false", "-timeout=5s"]
        self._run([str(build.ensure("vegeta")), "attack", f"-targets={targets}", "-output=/dev/null", *sizes])

    def burst(self, server: Server) -> None:
        """One wrk, as fast as it can for a second."""
        script = self._folder / "burst.lua"
        script.write_text(BURST.format(burst=f"b{next(self._bursts)}"))
        command = [str(build.ensure("wrk")), f"-c{BURST_CONNECTIONS}", "-t2", "-d1s", f"-s{script}", server.url]
        words = self._run(command).split()
        if b"requests" in words:
            self.burst_requests += int(words[words.index(b"requests") - 1])

    def kill_one(self) -> None:
        with self._lock:
            alive = [one for one in self._running if one.poll() is None]
            if alive:
                self._chance.choice(alive).kill()
                self.killed += 1

    def _run(self, command: list[str]) -> bytes:
        child = subprocess.Popen(
            command,
            env=process.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with self._lock:
            self._running.append(child)
        output, _ = child.communicate()
        with self._lock:
            self._running.remove(child)
        return output


@dataclass
class Scene:
    """Everything that a fault may befall."""

    nginx: Server
    threaded: Server
    collector: Lives
    clients: Clients
    raw: RawClients
    tracer: int  # its pid
    chance: random.Random
    polite: bool = False  # nothing is killed, so that every request has a log line
    server_kills: int = 0
    tracer_stops: int = 0

    def kill_worker(self) -> None:
        """nginx's master begins another."""
        master = self.nginx.processes[0].pid
        workers = [pid for pid in self.nginx.pids if pid != master]
        if workers:
            os.kill(self.chance.choice(workers), signal.SIGKILL)
            self.server_kills += 1

    def kill_server(self) -> None:
        """The threaded server begins anew on its port, with the same log."""
        old = self.threaded.processes.pop()
        old.kill()
        old.wait()
        self.server_kills += 1
        time.sleep(self.chance.uniform(0, 0.3))
        place = servers.Place(build.ensure(self.threaded.name), self.threaded.port, self.threaded.dir)
        log = self.threaded.dir / self.threaded.spec.log
        self.threaded.processes.append(process.spawn(self.threaded.spec.argv(place), place.dir, log))
        process.wait_until(lambda: process.connectable(("127.0.0.1", place.port)), process.START_SECONDS)

    def stop_tracer(self) -> None:
        os.kill(self.tracer, signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.05, 1.5))
        os.kill(self.tracer, signal.SIGCONT)
        self.tracer_stops += 1

    def faults(self) -> list[Callable[[], None]]:
        """Each once, in random order; some more often."""
        chance = self.chance
        steps: list[Callable[[], None]] = [
            self.stop_tracer,
            self.stop_tracer,
            lambda: self.raw.crowd(self.threaded),
            lambda: self.collector.restart(chance.uniform(0, 3)),
            lambda: self.collector.hang(chance.uniform(0.5, 4)),
        ]
        if not self.polite:
            steps += [self.kill_worker, self.kill_server, self.clients.kill_one, self.clients.kill_one]
            steps.append(lambda: self.clients.burst(self.nginx))
        chance.shuffle(steps)
        return steps


def play(scene: Scene, tags: Tags, requests: int) -> None:
    """Loads and faults until there were so many requests; every fault at least once."""
    ending = threading.Event()
    errors: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not ending.is_set():
                work()
        except BaseException as error:
            errors.append(error)
            ending.set()

    loads = [lambda server=server: scene.clients.steady(server) for server in (scene.nginx, scene.threaded)]
    loads += [lambda server=server: scene.raw.one(server) for server in (scene.nginx, scene.threaded) * 3]
    threads = [threading.Thread(target=repeat, args=(load,), daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    while tags.given + scene.clients.burst_requests < requests and not ending.is_set():
        for fault in scene.faults():
            time.sleep(scene.chance.uniform(0.1, 0.8))
            fault()
    ending.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def tracing(flags: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """ringspan, with rows and ledger in files; it is stopped for a while now and then, so nobody waits on a pipe of its."""
    variables = os.environ | {"OTEL_BSP_EXPORT_TIMEOUT": "1000", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
    said = folder / "stderr"
    with (folder / "rows").open("wb") as rows, said.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "ringspan.cli", "trace", *flags], stdout=rows, stderr=errors, env=variables
        )
    try:
        ready = process.wait_until(lambda: child.poll() is not None or b"ready" in said.read_bytes(), 60)
        assert ready, said.read_text()
        assert child.poll() is None, said.read_text()
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.kill()
        child.wait()
