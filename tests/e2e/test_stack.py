"""docker-compose.yml and config/: real programs take them as they are, and the dashboard shows what was sent."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from peers.build import PeerUnavailable, ensure
from peers.process import wait_until

from . import dashboard, stack
from .feed import HOST, SERVICES, feed
from .stack import COMPOSE, CONFIG, ROOT

# The first run on a machine builds Prometheus and Jaeger, which takes as many minutes as it has time for them.
pytestmark = [pytest.mark.peers, pytest.mark.backend, pytest.mark.timeout(5400)]

BOARD = dashboard.load(CONFIG / "grafana/dashboards/ringspan.json")
PROVISIONING = CONFIG / "grafana/provisioning"
SETTLE_SECONDS = 20
ALL = ".*"
DEFAULTS = re.compile(r"\$\{env:(\w+):-([^}]*)\}")
# The ports of programs that no file of ours tells where to listen.
OWN_PORTS = {"prometheus": {9090}, "grafana": {3000}, "ringspan": set[int]()}


def services() -> dict[str, Any]:
    return stack.compose()["services"]


def mounts(service: str) -> dict[str, Path]:
    """What of this repository a service sees, by its path in the container."""
    volumes = [volume.split(":") for volume in services()[service].get("volumes", [])]
    return {volume[1]: ROOT / volume[0] for volume in volumes if volume[0].startswith("./")}


def listens(service: str) -> set[int]:
    """The ports on which a service listens by its configuration's defaults."""
    if service in OWN_PORTS:
        return OWN_PORTS[service]
    values = dict(DEFAULTS.findall((CONFIG / f"{service}.yaml").read_text()))
    ports = [
        value.removeprefix("0.0.0.0:") for name, value in values.items() if not value.startswith(tuple(services()))
    ]
    return {int(port) for port in ports if port.isdigit()}


def called() -> list[str]:
    """Every address inside the stack that one of its files names."""
    texts = [COMPOSE, *CONFIG.glob("*.yaml"), *PROVISIONING.rglob("*.yaml")]
    pattern = re.compile(rf"\b(?:{'|'.join(services())}):\d{{4,5}}\b")
    return sorted({found for path in texts for found in pattern.findall(path.read_text())})


def ask(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, cwd=ROOT, capture_output=True, text=True)


def compose_client() -> list[str | Path]:
    """The words that have a client print docker-compose.yml as it understands it."""
    if shutil.which("docker") and not ask("docker", "compose", "version").returncode:
        return ["docker", "compose", "-f", COMPOSE, "config", "--format", "json"]
    try:
        return [ensure("compose"), "-format", "json", COMPOSE]
    except PeerUnavailable as error:
        pytest.skip(f"no docker compose here, and its parser cannot be built: {error}")


def test_compose_understands_the_file() -> None:
    done = ask(*compose_client())
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr
    understood = json.loads(done.stdout)["services"]
    assert set(understood) == {"ringspan", "collector", "jaeger", "prometheus", "grafana"}
    for name, service in understood.items():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert re.search(r":v?\d+\.\d+\.\d+$", service.get("image", "")) or "build" in service, name


def test_what_compose_names_is_there() -> None:
    built = services()["ringspan"]["build"]
    assert (ROOT / built["context"] / built["dockerfile"]).is_file()
    for name in services():
        assert all(path.exists() for path in mounts(name).values()), name
        for word in services()[name].get("command", []):
            flag, _, value = word.partition("=")
            assert value in mounts(name) or not flag.startswith("--config"), word
    provider = yaml.safe_load((PROVISIONING / "dashboards/ringspan.yaml").read_text())["providers"][0]
    assert mounts("grafana")[provider["options"]["path"]] == CONFIG / "grafana/dashboards"
    home = Path(services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounts("grafana")[str(home.parent)] / home.name).is_file()


def test_addresses_agree() -> None:
    names = called()
    assert {"collector:4317", "collector:8889", "jaeger:4317", "jaeger:16686", "prometheus:9090"} <= set(names)
    for address in names:
        service, _, port = address.partition(":")
        assert int(port) in listens(service), address
    for name, service in services().items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port
            assert int(port.rpartition(":")[2]) in listens(name), port


def test_sources_are_as_the_dashboard_wants_them() -> None:
    sources = yaml.safe_load((PROVISIONING / "datasources/ringspan.yaml").read_text())["datasources"]
    assert {one["uid"]: one["type"] for one in sources} == {"prometheus": "prometheus", "jaeger": "jaeger"}
    assert dashboard.variables(BOARD)["datasource"]["current"]["value"] == "prometheus"
    scraped = yaml.safe_load((CONFIG / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    assert sources[0]["jsonData"]["timeInterval"] == scraped
    assert services()["ringspan"]["environment"]["OTEL_METRIC_EXPORT_INTERVAL"] == f"{scraped.removesuffix('s')}000"


def test_panels_say_what_they_show() -> None:
    panels = dashboard.panels(BOARD)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    for one, other in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)


@pytest.mark.parametrize(("name", "file"), [("otelcol", "collector.yaml"), ("jaeger", "jaeger.yaml")])
def test_the_program_accepts_its_configuration(name: str, file: str) -> None:
    done = ask(stack.program(name), "validate", "--config", CONFIG / file)
    assert done.returncode == 0, done.stderr


def test_the_collector_of_the_recipe_accepts_it_too() -> None:
    try:
        built = ensure("otelcol")
    except PeerUnavailable as error:
        pytest.skip(str(error))
    done = ask(built, "validate", "--config", CONFIG / "collector.yaml")
    assert done.returncode == 0, done.stderr


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    with stack.prometheus(tmp_path, CONFIG / "prometheus.yaml") as api:
        # It is ready a moment before it has made its pools.
        wanted = {"collector", "ringspan"}
        assert wait_until(
            lambda: set(stack.fetch(f"{api}/scrape_pools")["data"]["scrapePools"]) == wanted, SETTLE_SECONDS
        )


@dataclass(frozen=True)
class Fed:
    """The running stack after metrics and one span were sent to its collector."""

    prometheus: str
    jaeger: str
    trace_id: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        answer = stack.fetch(f"{self.prometheus}/query", query=expr)
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def values(self, expr: str) -> list[float]:
        found = (float(one["value"][1]) for one in self.query(expr))
        return [value for value in found if math.isfinite(value)]

    def unanswered(self, **chosen: str) -> list[str]:
        return [str(query) for query in dashboard.queries(BOARD) if not self.values(query.filled(chosen))]


def send_span(url: str) -> str:
    """Sends one span by OTLP; its trace's id."""
    trace_id = secrets.randbits(128) | 1
    context = SpanContext(trace_id, secrets.randbits(64) | 1, is_remote=False, trace_flags=TraceFlags(1))
    now = time.time_ns()
    resource = Resource({"service.name": "shop", "host.name": HOST})
    span = ReadableSpan("GET /cart/{id}", context, resource=resource, start_time=now - 1_000_000, end_time=now)
    exporter = OTLPSpanExporter(url, insecure=True)
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    return f"{trace_id:032x}"


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as running:
        jaeger = running.enter_context(stack.jaeger(folder))
        collector = running.enter_context(stack.collector(folder, jaeger.otlp))
        config = stack.prometheus_config(folder, collector.scraped)
        ready = Fed(running.enter_context(stack.prometheus(folder, config)), jaeger.api, send_span(collector.url))
        feed(collector.url)
        wait_until(lambda: not ready.unanswered(service=ALL, host=HOST), SETTLE_SECONDS)
        yield ready


def test_jaeger_finds_the_span(fed: Fed) -> None:
    def found() -> list[dict[str, Any]]:
        answer = stack.fetch(f"{fed.jaeger}/traces/{fed.trace_id}")
        return (answer or {}).get("data") or []

    assert wait_until(lambda: bool(found()), SETTLE_SECONDS)
    [trace] = found()
    assert [span["operationName"] for span in trace["spans"]] == ["GET /cart/{id}"]
    assert {process["serviceName"] for process in trace["processes"].values()} == {"shop"}
    assert stack.fetch(f"{fed.jaeger}/services")["data"] == ["shop"]


@pytest.mark.parametrize("service", [ALL, "shop"])
def test_every_query_of_the_dashboard_has_an_answer(fed: Fed, service: str) -> None:
    assert len(list(dashboard.queries(BOARD))) > 50
    assert fed.unanswered(service=service, host=HOST) == []


def test_a_service_that_is_not_there_shows_nothing(fed: Fed) -> None:
    """The variables are in every query of the services' metrics, and the host in ringspan's own."""
    chosen = {"service": "another", "host": "another"}
    shown = {query.panel for query in dashboard.queries(BOARD) if any(fed.values(query.filled(chosen)))}
    assert shown <= {"After the ledger: the collector"}


def test_the_variables_offer_what_was_fed(fed: Fed) -> None:
    offered = {}
    for name in ("host", "service"):
        selector, label = dashboard.label_values(dashboard.variables(BOARD)[name])
        match = {"match[]": dashboard.filled(selector, {"host": ALL})}
        offered[name] = stack.fetch(f"{fed.prometheus}/label/{label}/values", **match)["data"]
    assert offered == {"host": [HOST], "service": sorted(service.name for service in SERVICES)}


def expressions(panel: str) -> list[str]:
    chosen = {"service": ALL, "host": ALL}
    return [query.filled(chosen) for query in dashboard.queries(BOARD) if query.panel == panel]


def test_the_endpoints_are_those_that_were_fed(fed: Fed) -> None:
    wanted = {(one.name, call.method, call.route) for one in SERVICES for call in one.served}
    labels = ("service_name", "http_request_method", "http_route")
    for expr in expressions("Endpoints"):
        assert {tuple(one["metric"].get(label) for label in labels) for one in fed.query(expr)} == wanted, expr


def test_the_first_failure_of_its_kind_counts(fed: Fed) -> None:
    """One connect a round: without the zero that a counter began with, the table would show one less at least."""
    refused = {error for service in SERVICES for error, *_ in service.refused}
    counted = {
        one["metric"]["error_type"]: float(one["value"][1]) for one in fed.query(expressions("Failed connects")[0])
    }
    sent = {one["metric"]["error_type"]: float(one["value"][1]) for one in fed.query("ringspan_connect_failures_total")}
    assert set(counted) == set(sent) == refused
    assert all(counted[error] >= sent[error] for error in refused), (counted, sent)
