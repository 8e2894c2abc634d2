"""What a soak's clients do: steady rates, whole plans with slow and big bodies, short processes, failing connects."""

from __future__ import annotations

import random
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING

from peers import build, load
from peers.clients import ClientFailed, run
from peers.plan import Call, plan_for
from peers.process import environment, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from soak_stage import Place

SEGMENT_S = 20
CONNECTIONS = 8
PROGRAMS = ("go", "requests", "node", "curl-reuse")


class Load:
    """Threads that each do one thing over and over; `done` counts requests by client as the clients saw them."""

    def __init__(self, places: list[Place], rate: int, folder: Path) -> None:
        self._places = places
        self._rate = rate // len(places)
        self._folder = folder
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()  # of the client itself: its server was away
        works = [lambda place=place: self._steady(place) for place in places]
        works += [self._programs, self._short_processes, self._failing_connects]
        self._threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each finish what it is at."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._ending.is_set():
            try:
                work()
            except (ClientFailed, load.LoadFailed, OSError, subprocess.TimeoutExpired) as error:
                self._count(self.failed, type(error).__name__, 1)
                self._ending.wait(0.5)

    def _count(self, what: Counter[str], name: str, count: int) -> None:
        with self._lock:
            what[name] += count

    def _steady(self, place: Place) -> None:
        """A new client process for each segment, whose connections stay open."""
        paths = ["/api/users", "/id/{}", "/api/users?page=2", "/id/{}", "/missing/thing", "/id/{}", "/boom", "/empty"]
        targets = [place.url + path.format(random.randrange(1000)) for path in paths * 8]
        targets += [f"{place.url}/big", f"{place.url}/slow?ms=50", f"HEAD {place.url}/api/users"]
        done = load.rate_run(targets, self._rate, SEGMENT_S, CONNECTIONS)
        self._count(self.done, "steady", done["requests"])

    def _programs(self) -> None:
        place, name = random.choice(self._places), random.choice(PROGRAMS)
        self._count(self.done, name, len(run(name, place.url, plan_for(place.name))))

    def _short_processes(self) -> None:
        place = random.choice(self._places)
        calls = [
            Call("GET", f"/id/{random.randrange(1000)}"),
            Call("GET", "/missing/thing"),
            Call("HEAD", "/api/users"),
        ]
        self._count(self.done, "curl", len(run("curl", place.url, calls)))

    def _failing_connects(self) -> None:
        curl = str(build.artifact("curl"))
        for where in ([f"http://127.0.0.1:{free_port()}/"], ["--unix-socket", f"{self._folder}/no.sock", "http://a/"]):
            subprocess.run([curl, "-qs", *where], env=environment(), check=False, capture_output=True, timeout=20)
            self._count(self.done, "failing connects", 1)
        self._ending.wait(0.2)
