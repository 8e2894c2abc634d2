"""The servers of bench/overhead.py: nginx, and one application each in Python and Node, bare or instrumented."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peers import build, process, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Sources of recipes are named from tests/peers; what they make goes to the tests' cache.
PLACE = "../../bench/overhead"
SOURCES = Path(__file__).parent / "overhead"
build.RECIPES["overhead-python"] = build.Recipe(
    "python3",
    f"{PLACE}/python/requirements.txt",
    ("{tool} -m venv {out}", "{out}/bin/python -m pip install -q --disable-pip-version-check -r {src}"),
)
build.RECIPES["overhead-node"] = build.Recipe(
    "npm",
    f"{PLACE}/node",
    ("cp {src}/package.json {src}/package-lock.json {out}", "{tool} ci --no-audit --no-fund --prefix {out}"),
)
INSTRUMENTED = {
    "OTEL_SERVICE_NAME": "overhead",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "none",
    # The others ask the metadata services of clouds, which may not answer here.
    "OTEL_NODE_RESOURCE_DETECTORS": "env,host,os,process",
}


@dataclass(frozen=True)
class Served:
    """One application: its recipe, its command, and what stands before or in it when it is instrumented."""

    name: str
    recipe: str
    command: Callable[[Path, int, bool], list[str]]


def _python(installed: Path, port: int, instrumented: bool) -> list[str]:
    first = [str(installed / "bin/opentelemetry-instrument")] if instrumented else []
    # gthread, because gunicorn's sync workers close after each response; with one thread, as several on one worker
    # fight for its lock whenever that worker happens to get most of the connections, which takes most of the rate.
    flags = "--worker-class gthread --workers 2 --threads 1 --keep-alive 60 --no-control-socket"
    place = ["--bind", f"127.0.0.1:{port}", "--pythonpath", str(SOURCES / "python")]
    return [*first, str(installed / "bin/gunicorn"), *flags.split(), *place, "app:app"]


def _node(_installed: Path, port: int, instrumented: bool) -> list[str]:
    first = ["--require", "@opentelemetry/auto-instrumentations-node/register"] if instrumented else []
    return ["node", *first, str(SOURCES / "node/server.js"), str(port)]


PYTHON = Served("Flask under gunicorn, 2 workers", "overhead-python", _python)
NODE = Served("Node http, 1 process", "overhead-node", _node)


@contextmanager
def start(served: Served | None, otlp: str | None) -> Iterator[int]:
    """Run a server until the block ends, instrumented if there is a URL to send to; None is nginx; yields its port."""
    if served is None:
        with servers.start("nginx") as nginx:
            yield nginx.port
        return
    installed, port = build.artifact(served.recipe), process.free_port()
    variables = INSTRUMENTED | {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp} if otlp else {}
    command = ["env", *(f"{key}={value}" for key, value in variables.items())]
    command += served.command(installed, port, bool(otlp))
    with tempfile.TemporaryDirectory(prefix="ringspan-served-") as folder:
        log = Path(folder) / "log"
        # Node looks for what --require names where it is started.
        child = process.spawn(command, installed, log)
        try:
            if not process.wait_until(lambda: process.connectable(("127.0.0.1", port)), process.START_SECONDS):
                raise SystemExit(f"{served.name} did not start:\n{log.read_text()[-2000:]}")
            yield port
        finally:
            process.stop(child)
