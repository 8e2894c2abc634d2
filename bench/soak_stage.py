"""Who plays in a soak: servers, clients and a collector, as programs that can be told from others'."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.collector import binary
from peers import build, process, servers

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

COPIED = ("nginx", "node", "curl")
BUILT = ("go", "vegeta", "java", "venv")
STARTS = 5
# Spans are counted in its log, whose lines must not be sampled; metrics are kept.
CONFIG = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{port}}}}}}}
exporters:
  debug: {{verbosity: basic}}
  file: {{path: {folder}/metrics.jsonl, flush_interval: 500ms}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{encoding: json, sampling: {{enabled: false}}}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""


def private_programs(folder: Path) -> None:
    """Copy every program that will play into a folder, and have the peers taken from there.

    So `--exe FOLDER/*` asks for the soak's own traffic, over Unix sockets too, and for nobody else's.
    """
    cache, bin_ = folder / "cache", folder / "bin"
    bin_.mkdir(parents=True)
    for name in BUILT:
        build.artifact(name)
        shutil.copytree(build.cache_dir() / f"peers-{name}", cache / f"peers-{name}", symlinks=True)
    for name in COPIED:
        shutil.copy2(build.artifact(name), bin_ / name)
    python = cache / "peers-venv/bin/python"
    real = python.resolve()
    python.unlink()
    shutil.copy2(real, python)
    _copy_java(folder / "java")
    (bin_ / "java").symlink_to(folder / "java/bin/java")
    os.environ["PATH"] = f"{bin_}{os.pathsep}{os.environ['PATH']}"
    os.environ["RINGSPAN_TEST_CACHE"] = str(cache)


def _copy_java(home: Path) -> None:
    """Java finds its home by its own path: links to the rest of it, and the program itself."""
    found = shutil.which("java")
    if not found:
        raise SystemExit("java is not installed")
    real = os.path.realpath(found)
    theirs = os.path.dirname(os.path.dirname(real))  # noqa: PTH120
    (home / "bin").mkdir(parents=True)
    for name in os.listdir(theirs):  # noqa: PTH208
        if name != "bin":
            (home / name).symlink_to(f"{theirs}/{name}")
    shutil.copy2(real, home / "bin/java")


class Place:
    """A server that keeps its port while it is restarted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = process.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._stack = ExitStack()
        self._start()

    def restart(self, pause_s: float) -> None:
        """Stop it, wait, start it again."""
        self.stop()
        time.sleep(pause_s)
        self._start()

    def stop(self) -> None:
        """Stop it."""
        self._stack.close()

    def _start(self) -> None:
        for attempt in range(STARTS):
            try:
                self._stack.enter_context(servers.start(self.name, self.port))
            except RuntimeError:  # its port is not free yet
                if attempt == STARTS - 1:
                    raise
                time.sleep(1)
            else:
                return


@dataclass
class Collector:
    """A collector that is stopped, hung and started again; each life has a folder."""

    folder: Path
    port: int = field(default_factory=process.free_port)
    lives: list[Path] = field(default_factory=list)
    _child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where spans and metrics go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def metrics(self) -> Path:
        """The file of this life's metrics."""
        return self.lives[-1] / "metrics.jsonl"

    def start(self) -> None:
        """Begin a life."""
        life = self.folder / f"collector-{len(self.lives)}"
        life.mkdir()
        (life / "config.yaml").write_text(CONFIG.format(port=self.port, folder=life))
        self._child = process.spawn([binary(), "--config", str(life / "config.yaml")], life, life / "log")
        self.lives.append(life)
        if not process.wait_until(lambda: process.connectable(("127.0.0.1", self.port)), process.START_SECONDS):
            raise SystemExit(f"the collector did not start:\n{(life / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End this life, with nothing lost that was acknowledged."""
        if self._child:
            process.stop(self._child)

    def restart(self, pause_s: float) -> None:
        """Stop it, wait, start it again."""
        self.stop()
        time.sleep(pause_s)
        self.start()

    def hang(self, seconds: float) -> None:
        """Have it answer nothing for a while."""
        if self._child:
            self._child.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self._child.send_signal(signal.SIGCONT)

    def sockets(self) -> set[int]:
        """Return the inodes of its sockets."""
        descriptors = Path(f"/proc/{self._child.pid}/fd").iterdir() if self._child else ()
        names = [os.readlink(one) for one in descriptors]  # noqa: PTH115
        return {int(name[len("socket:[") : -1]) for name in names if name.startswith("socket:[")}

    def spans(self) -> int:
        """Count the spans that all lives have got."""
        return sum(line.get("spans", 0) for life in self.lives for line in log_lines(life / "log"))


def log_lines(log: Path) -> Iterator[dict[str, int]]:
    """Read a collector's log, line by line."""
    with log.open() as file:
        for line in file:
            if line.startswith("{"):
                yield json.loads(line)


class Restarts:
    """Restarts one part after the other, until told to stop."""

    def __init__(self, places: list[Place], collector: Collector, every_s: float) -> None:
        self._steps = [(place.name, lambda place=place: place.restart(1.0)) for place in places]
        self._steps += [("collector", lambda: collector.restart(3.0)), ("collector (hung)", lambda: collector.hang(12))]
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.counts: dict[str, int] = {}
        self.error: BaseException | None = None
        self._thread.start()

    def end(self) -> None:
        """Finish the restart that is under way; raises what one has raised."""
        self._ending.set()
        self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        try:
            while True:
                for name, step in self._steps:
                    if self._ending.wait(self._every_s):
                        return
                    step()
                    self.counts[name] = self.counts.get(name, 0) + 1
        except BaseException as error:  # noqa: BLE001 - raised at the end, in the main thread
            self.error = error
