"""The programs of docker-compose.yml without their containers: its own configurations, on free ports of loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from peers.build import PeerUnavailable, cache_dir, ensure
from peers.process import free_port, wait_until

from . import collector as tested

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
COMPOSE = ROOT / "docker-compose.yml"
READY_SECONDS = 30
STOP_SECONDS = 15


def program(name: str) -> str:
    """A program from the tests' cache or the PATH, else built; a skip that says why there is none."""
    if name == "otelcol":
        return tested.binary()
    cached = cache_dir() / "bin" / name
    found = str(cached) if os.access(cached, os.X_OK) else shutil.which(name)
    try:
        return found or str(ensure(name))
    except PeerUnavailable as error:
        pytest.skip(f"no {name} at {cached} nor on PATH, and none can be built: {error}")


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def command(service: str, **replaced: str) -> list[str]:
    """A service's flags as docker-compose.yml has them, but for the values replaced (- and . in a flag are _ here)."""
    words = []
    for word in compose()["services"][service]["command"]:
        flag, _, value = word.partition("=")
        words.append(f"{flag}={replaced.pop(flag.strip('-').replace('.', '_').replace('-', '_'), value)}")
    assert not replaced, f"flags that {service} is not given: {replaced}"
    return words


def fetch(url: str, **parameters: str) -> Any:
    """The JSON that an API answers with, errors included; None where nothing answers yet."""
    try:
        with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    except OSError:
        return None
    return json.loads(text) if text.startswith((b"{", b"[")) else text.decode()


def answers(url: str) -> bool:
    """Whether it answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def running(words: list[str], ready: str, folder: Path, **environment: str) -> Iterator[None]:
    """Runs a program until its URL has answered and the block is done; its last words if it does not."""
    log = folder / f"{Path(words[0]).name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=folder, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        there = wait_until(lambda: process.poll() is not None or answers(ready), READY_SECONDS)
        said = log.read_text(errors="replace").splitlines()[-15:]
        assert there and process.poll() is None, "\n".join([f"{words} did not start:", *said])
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Jaeger:
    otlp: str
    otlp_http: str
    api: str


@contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    otlp, http, api, grpc, health = (f"127.0.0.1:{free_port()}" for _ in range(5))
    words = [program("jaeger"), *command("jaeger", config=str(CONFIG / "jaeger.yaml"))]
    variables = {
        "JAEGER_OTLP_GRPC": otlp, "JAEGER_OTLP_HTTP": http, "JAEGER_QUERY_HTTP": api, "JAEGER_QUERY_GRPC": grpc,
        "JAEGER_HEALTH": health,
    }  # fmt: skip
    with running(
        words, f"http://{health}/status", folder, **compose()["services"]["jaeger"]["environment"], **variables
    ):
        yield Jaeger(otlp, http, f"http://{api}/api")


@dataclass(frozen=True)
class Collector:
    grpc: str
    http: str
    scraped: dict[str, str]  # address by the name that config/prometheus.yaml has for it

    @property
    def url(self) -> str:
        return f"http://{self.grpc}"


@contextmanager
def collector(folder: Path, jaeger_otlp: str) -> Iterator[Collector]:
    grpc, http, health, metrics, own = (f"127.0.0.1:{free_port()}" for _ in range(5))
    host, _, port = own.partition(":")
    words = [program("otelcol"), *command("collector", config=str(CONFIG / "collector.yaml"))]
    variables = {
        "COLLECTOR_OTLP_GRPC": grpc,
        "COLLECTOR_OTLP_HTTP": http,
        "COLLECTOR_HEALTH": health,
        "COLLECTOR_JAEGER": jaeger_otlp,
        "COLLECTOR_PROMETHEUS": metrics,
        "COLLECTOR_METRICS_HOST": host,
        "COLLECTOR_METRICS_PORT": port,
    }
    with running(words, f"http://{health}/", folder, **variables):
        yield Collector(grpc, http, {"collector:8889": metrics, "collector:8888": own})


def prometheus_config(folder: Path, scraped: dict[str, str]) -> Path:
    """config/prometheus.yaml with these targets and every second: Prometheus expands no variables there."""
    config = yaml.safe_load((CONFIG / "prometheus.yaml").read_text())
    config["global"]["scrape_interval"] = "1s"
    for job in config["scrape_configs"]:
        for group in job["static_configs"]:
            group["targets"] = [scraped.get(target, target) for target in group["targets"]]
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def prometheus(folder: Path, config: Path) -> Iterator[str]:
    """A running Prometheus; the URL of its API."""
    address = f"127.0.0.1:{free_port()}"
    flags = command("prometheus", config_file=str(config), storage_tsdb_path=str(folder / "tsdb"))
    words = [program("prometheus"), *flags, f"--web.listen-address={address}"]
    with running(words, f"http://{address}/-/ready", folder):
        yield f"http://{address}/api/v1"
