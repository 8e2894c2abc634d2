"""Load: wrk sends as fast as it can, vegeta sends at a fixed rate."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .build import ensure
from .process import environment

SPARE_SECONDS = 60.0


class LoadFailed(Exception):
    """The load tool itself broke."""


def wrk_run(url: str, connections: int, threads: int, seconds: int) -> int:
    """The requests that wrk counted: those whose response came before its time was up.

    The server may have seen up to ``connections`` more.
    """
    sizes = [f"-c{connections}", f"-t{threads}", f"-d{seconds}s"]
    output = _run([str(ensure("wrk")), *sizes, url], b"", seconds)
    found = re.search(rb"(\d+) requests in", output)
    if not found:
        raise LoadFailed(f"wrk: {output.decode(errors='replace')}")
    return int(found[1])


def rate_run(targets: str | Sequence[str], rate: int, seconds: float, connections: int) -> dict[str, Any]:
    """Sends rate * seconds requests over kept-open connections, each target in its turn.

    A target is "URL" or "METHOD URL". Returns requests, statuses, bytes and errors.
    """
    vegeta = str(ensure("vegeta"))
    each = [targets] if isinstance(targets, str) else targets
    lines = "".join(f"{one if ' ' in one else 'GET ' + one}\n\n" for one in each)
    with tempfile.TemporaryDirectory(prefix="ringspan-peer-") as folder:
        record = str(Path(folder) / "record")
        sizes = [f"-rate={rate}/1s", f"-duration={seconds}s", f"-max-connections={connections}"]
        sizes += [f"-connections={connections}", f"-workers={connections}", "-http2=false"]
        _run([vegeta, "attack", "-keepalive", f"-output={record}", *sizes], lines.encode(), seconds)
        report = json.loads(_run([vegeta, "report", "-type=json", record], b"", 0))
    return {
        "requests": report["requests"],
        "statuses": {int(code): count for code, count in report["status_codes"].items()},
        "bytes": report["bytes_in"]["total"],
        "errors": report["errors"] or [],
    }


def _run(argv: list[str], fed: bytes, seconds: float) -> bytes:
    done = subprocess.run(
        argv,
        input=fed,
        env=environment(),
        capture_output=True,
        timeout=seconds + SPARE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(f"{argv}: {done.stderr.decode(errors='replace')}")
    return done.stdout
