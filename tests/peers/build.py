"""Builds each peer once into a cache; ``python -m peers.build`` builds them all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "src"
STEP_SECONDS = 2400  # Jaeger takes 11 minutes of a processor, and there may be one
SHOWN_LINES = 15
# Where toolchains are often installed without being on the PATH of a service or of sudo.
EXTRA_PATH = ("/usr/local/go/bin", "~/.cargo/bin", "/usr/sbin", "/usr/bin")


class PeerUnavailable(Exception):
    """A peer cannot be had here: no toolchain, or its build failed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


# What a wheel made for another Python holds beside its module.
PIP_OTHER = (
    "/usr/bin/python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary=:all: --target {out} "
    "--python-version 3.11 --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64"
)


@dataclass(frozen=True)
class Recipe:
    """How to get one program: without steps it is the tool itself, found on the PATH.

    In steps, {tool} is the tool's path, {src} the source and {out} the folder to fill.
    """

    tool: str
    source: str = ""
    steps: tuple[str, ...] = ()
    result: str = "."


RECIPES: dict[str, Recipe] = {
    "python": Recipe("python3"),
    "venv": Recipe(
        "python3",
        "requirements.txt",
        (
            "{tool} -m venv {out}",
            "{out}/bin/python -m pip install -q --disable-pip-version-check -r {src}",
        ),
        "bin/python",
    ),
    "nginx": Recipe("nginx"),
    "curl": Recipe("curl"),
    "wget": Recipe("wget"),
    "wrk": Recipe("wrk"),
    "node": Recipe("node"),
    "go": Recipe("go", "src/go", ("{tool} build -buildvcs=false -p 2 -o {out}/ ./...",)),
    "vegeta": Recipe(
        "go",
        "src/vegeta",
        ("{tool} build -buildvcs=false -p 2 -o {out}/vegeta github.com/tsenart/vegeta/v12",),
        "vegeta",
    ),
    "otelcol": Recipe("go", "src/otelcol", ("{tool} build -buildvcs=false -trimpath -o {out}/otelcol .",), "otelcol"),
    # Without service discovery, which is most of its code; its Web UI is not part of the module, its API is.
    "prometheus": Recipe(
        "go",
        "src/prometheus",
        (
            (
                "{tool} build -buildvcs=false -trimpath -p 2 -tags remove_all_sd -o {out}/prometheus "
                "github.com/prometheus/prometheus/cmd/prometheus"
            ),
        ),
        "prometheus",
    ),
    "jaeger": Recipe(
        "go",
        "src/jaeger",
        ("{tool} build -buildvcs=false -trimpath -p 2 -o {out}/jaeger github.com/jaegertracing/jaeger/cmd/jaeger",),
        "jaeger",
    ),
    # What `docker compose config` is made of, for machines without Docker.
    "compose": Recipe(
        "go",
        "src/compose",
        ("{tool} build -buildvcs=false -trimpath -p 2 -o {out}/compose github.com/compose-spec/compose-go/v2/cmd",),
        "compose",
    ),
    "java": Recipe("javac", "src/java", ("{tool} -d {out} {src}/Server.java {src}/Client.java {src}/Relay.java",)),
    "jetty": Recipe(
        "mvn",
        "src/jetty",
        (
            "{tool} -q -B dependency:copy-dependencies -DoutputDirectory={out}/lib",
            "javac -cp {out}/lib/* -d {out} {src}/JettyServer.java",
        ),
    ),
    "uring": Recipe("cc", "src/uring", ("{tool} -O2 -Wall -Wextra -o {out}/uring {src}/uring.c -luring",), "uring"),
    "rust": Recipe(
        "cargo",
        "src/rust",
        ("{tool} build -q -j 2 --release --locked --target-dir {out}/target",),
        "target/release/rust-server",
    ),
    # HTTPS by many libraries; one source for all that have OpenSSL's interface.
    "tls-openssl": Recipe(
        "cc",
        "src/tls",
        ("{tool} -O2 -Wall -Wextra -DWITH_EX -DWITH_BIO -o {out}/peer {src}/openssl.c -lssl -lcrypto",),
        "peer",
    ),
    "tls-static": Recipe(
        "cc",
        "src/tls",
        ("{tool} -O2 -static -DWITH_EX -DWITH_BIO -o {out}/peer {src}/openssl.c -lssl -lcrypto",),
        "peer",
    ),
    "tls-stripped": Recipe(
        "cc",
        "src/tls",
        ("{tool} -O2 -s -static -DWITH_EX -DWITH_BIO -o {out}/peer {src}/openssl.c -lssl -lcrypto",),
        "peer",
    ),
    "tls-openssl11": Recipe(
        "cc",
        "src/tls",
        (
            f"{PIP_OTHER} psycopg2-binary==2.9.5",  # whose wheel has OpenSSL 1.1
            (
                "{tool} -O2 -DWITH_EX -DWITH_BIO -o {out}/peer {src}/openssl.c -L{out}/psycopg2_binary.libs "
                "-l:libssl-3a880ada.so.1.1 -l:libcrypto-2ade47cd.so.1.1 "
                "-Wl,--allow-shlib-undefined,-rpath,{out}/psycopg2_binary.libs"
            ),
        ),
        "peer",
    ),
    "tls-boringssl": Recipe(
        "cargo",
        "src/tls",
        (
            "{tool} vendor -q --locked --versioned-dirs {out}/vendor",
            "cmake -S {out}/vendor/boring-sys-4.22.0/deps/boringssl -B {out}/made -DCMAKE_BUILD_TYPE=Release",
            "cmake --build {out}/made --target ssl -j 2",
            "c++ -O2 -x c -o {out}/peer.o -c {src}/openssl.c",
            "c++ -o {out}/peer {out}/peer.o {out}/made/libssl.a {out}/made/libcrypto.a -lpthread",
        ),
        "peer",
    ),
    "tls-node16": Recipe(
        "python3",
        steps=(f"{PIP_OTHER} nodejs-bin==16.15.1a4", "chmod +x {out}/nodejs/bin/node"),
        result="nodejs/bin/node",
    ),
    "tls-curl-cffi": Recipe(
        "python3",
        steps=(
            "{tool} -m venv {out}",
            "{out}/bin/python -m pip install -q --disable-pip-version-check --only-binary=:all: curl_cffi==0.17.0",
        ),
        result="bin/python",
    ),
    "tls-rust": Recipe(
        "cargo",
        "src/tls-rust",
        ("{tool} build -q -j 2 --release --locked --target-dir {out}/target",),
        "target/release/tls-peer",
    ),
    "tls-go": Recipe(
        "go",
        "src/gotls",
        ("{tool} build -buildvcs=false -ldflags=-s -o {out}/peer .",),
        "peer",
    ),
    "tls-java": Recipe("javac", "src/tls-java", ("{tool} -d {out} {src}/Tls.java",)),
    "gnutls-serv": Recipe("gnutls-serv"),
}

# What each server and client needs; the first one is the program it runs.
NEEDS: dict[str, tuple[str, ...]] = {
    "nginx": ("nginx",),
    "nginx-gunicorn": ("nginx", "venv"),
    "http.server": ("python",),
    "http.server-1.0": ("python",),
    "uvicorn": ("venv",),
    "gunicorn": ("venv",),
    "requests": ("venv",),
    "aiohttp": ("venv",),
    "go": ("go",),
    "node": ("node",),
    "java": ("java",),
    "java-jetty": ("jetty",),
    "rust": ("rust",),
    "uring": ("uring",),
    "curl": ("curl",),
    "curl-reuse": ("curl",),
    "wget": ("wget",),
    "wrk": ("wrk",),
    "vegeta": ("vegeta",),
    "otelcol": ("otelcol",),
    "prometheus": ("prometheus",),
    "jaeger": ("jaeger",),
    "compose": ("compose",),
    **{name: (name,) for name in RECIPES if name.startswith(("tls-", "gnutls-"))},
}

_failed: dict[str, PeerUnavailable] = {}


def ensure(name: str) -> Path:
    """Builds what the peer needs, unless that is done already; the path of its program."""
    paths = [artifact(need) for need in NEEDS[name]]
    return paths[0]


def artifact(name: str) -> Path:
    """The program or folder that one recipe makes; a failure is remembered, not retried."""
    if name in _failed:
        raise _failed[name]
    try:
        return _built(name, RECIPES[name])
    except PeerUnavailable as error:
        _failed[name] = error
        raise


def cache_dir() -> Path:
    chosen = os.environ.get("RINGSPAN_TEST_CACHE") or "~/.cache/ringspan-tests"
    return Path(chosen).expanduser().absolute()


def search_path() -> str:
    """The PATH for builds and peers."""
    extra = [str(Path(folder).expanduser()) for folder in EXTRA_PATH]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *extra])


def _built(name: str, recipe: Recipe) -> Path:
    tool = _find_tool(name, recipe)
    if not recipe.steps:
        return tool
    out = cache_dir() / f"peers-{name}"
    stamp = out / ".built"
    key = _key(recipe, tool)
    with _locked(out):
        if not stamp.is_file() or stamp.read_text() != key:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            for step in recipe.steps:
                _run_step(name, step, recipe, tool, out)
            stamp.write_text(key)
    return out / recipe.result


def _find_tool(name: str, recipe: Recipe) -> Path:
    # The system's own Python, not one that happens to be active, makes the venv.
    first = ["/usr/bin"] if recipe.tool == "python3" else []
    found = shutil.which(recipe.tool, path=os.pathsep.join([*first, search_path()]))
    if found is None:
        raise PeerUnavailable(name, f"{recipe.tool} is not installed")
    return Path(found)


def _key(recipe: Recipe, tool: Path) -> str:
    """Changes with the sources, the steps and the toolchain's own path (not its patch level)."""
    source = HERE / recipe.source
    digest = hashlib.sha256(repr((recipe, str(tool.resolve()))).encode())
    files = sorted(source.rglob("*")) if source.is_dir() and recipe.source else [source]
    for file in files:
        if file.is_file():
            digest.update(file.relative_to(HERE).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Holds a lock beside the folder, so that two test processes do not build it at once."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f"{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run_step(name: str, step: str, recipe: Recipe, tool: Path, out: Path) -> None:
    source = HERE / recipe.source
    words = [word.format(tool=tool, src=source, out=out) for word in step.split()]
    try:
        done = subprocess.run(
            words,
            cwd=source if source.is_dir() else HERE,
            env=os.environ | {"PATH": search_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(name, str(error)) from error
    if done.returncode:
        tail = done.stdout.decode(errors="replace").splitlines()[-SHOWN_LINES:]
        raise PeerUnavailable(name, "\n".join([f"`{' '.join(words)}` failed:", *tail]))


def main() -> int:
    """Builds everything and prints a table; 1 if anything is unavailable."""
    print(f"{'name':10} {'state':12} {'seconds':>7}  peers")
    for name in RECIPES:
        peers = ", ".join(peer for peer, needs in NEEDS.items() if name in needs)
        begun = time.monotonic()
        try:
            artifact(name)
            state = "ok"
        except PeerUnavailable:
            state = "unavailable"
        print(f"{name:10} {state:12} {time.monotonic() - begun:7.1f}  {peers}", flush=True)
    for error in _failed.values():
        print(f"\n{error}", file=sys.stderr)
    return 1 if _failed else 0


if __name__ == "__main__":
    sys.exit(main())
