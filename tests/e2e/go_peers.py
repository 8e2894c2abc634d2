"""Real peers that speak HTTPS by Go's crypto/tls, built by several versions of Go in several ways."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from peers import build
from peers.process import wait_until

from .tls_peers import SCALE, HttpsServer, answers, make_certificates, make_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = build.SOURCES / "gotls"
WAYS = {
    "plain": (),
    "stripped": ("-ldflags", "-s -w"),
    "pie": ("-buildmode=pie", "-ldflags", "-s -w"),
    "cgo": ("-buildmode=pie", "-ldflags", "-s -w -linkmode=external"),
}
OLD, NEW = "go1.17.13", "local"


def built(version: str, way: str) -> Path:
    """The peer's program; skips where this Go cannot be had."""
    out = build.cache_dir() / f"gotls-{version}-{way}"
    if not out.exists() or out.stat().st_mtime < (SOURCE / "main.go").stat().st_mtime:
        environment = os.environ | {"PATH": build.search_path(), "GOTOOLCHAIN": version, "GOFLAGS": "-mod=mod"}
        out.parent.mkdir(parents=True, exist_ok=True)
        words = ["go", "build", *WAYS[way], "-o", str(out), "."]
        try:
            done = subprocess.run(
                words, check=False, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=600
            )
        except FileNotFoundError:
            pytest.skip("needs go")
        if "toolchain" in done.stderr and done.returncode:
            pytest.skip(f"needs {version}: {done.stderr.strip()[-200:]}")
        assert not done.returncode, done.stderr
    return out


@contextmanager
def go_server(program: Path, port: int, folder: Path, *flags: str, what: str = "serve") -> Iterator[HttpsServer]:
    """A server of HTTPS, beside its certificates and files."""
    make_certificates(folder)
    make_files(folder)
    command = [str(program), what, "-address", f"127.0.0.1:{port}", "-folder", str(folder), *flags]
    with (folder / "access.log").open("wb") as log, (folder / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(command, stdout=log, stderr=errors, env=os.environ | {"GOMAXPROCS": "4"})
    try:
        assert wait_until(lambda: answers(port), 10), (folder / "stderr.log").read_text()
        yield HttpsServer(port, folder, process)
        assert process.poll() is None, (folder / "stderr.log").read_text()
    finally:
        process.kill()
        process.wait(10)


def go_client(program: Path, server: HttpsServer, *flags: str, what: str = "client") -> None:
    command = [str(program), what, "-address", f"localhost:{server.port}", "-folder", str(server.folder), *flags]
    subprocess.run(command, check=True, timeout=120 * SCALE, env=os.environ | {"GOMAXPROCS": "4"})
