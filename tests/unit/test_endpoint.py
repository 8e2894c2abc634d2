"""The OTLP exporters' variables, as the SDK's exporters read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

from ringspan.errors import UsageError
from ringspan.otlp import endpoint

PREFIX = "OTEL_EXPORTER_OTLP_"


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(PREFIX + name, value)


URLS = [
    ({}, None),
    ({"ENDPOINT": "http://c:4318"}, None),
    ({"ENDPOINT": "http://c:4318/base/"}, None),
    ({"ENDPOINT": "http://c:4318", "TRACES_ENDPOINT": "http://t:1/own"}, None),
]


@pytest.mark.parametrize(("values", "otlp"), URLS)
def test_http_urls_are_the_sdks(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], otlp: str | None) -> None:
    set_all(monkeypatch, values)
    assert endpoint.resolve("traces", otlp, "http/protobuf").url == Http()._endpoint


@pytest.mark.parametrize(
    ("url", "insecure"),
    [
        ("http://c:4317", ""),
        ("https://c:4317", ""),
        ("https://c:4317", "true"),
        ("c:4317", ""),
        ("c:4317", "true"),
        ("c:4317", "false"),
    ],
)
def test_grpc_security_is_the_sdks(monkeypatch: pytest.MonkeyPatch, url: str, insecure: str) -> None:
    set_all(monkeypatch, {"ENDPOINT": url} | ({"INSECURE": insecure} if insecure else {}))
    assert endpoint.resolve("traces", None, "grpc").secure is not Grpc()._insecure


def test_a_scheme_wins_over_insecure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification says; the SDK has it otherwise for http."""
    set_all(monkeypatch, {"ENDPOINT": "http://c:4317", "INSECURE": "false"})
    assert not endpoint.resolve("traces", None, "grpc").secure


@pytest.mark.parametrize(
    ("otlp", "signal", "want"),
    [
        ("http://c:4318", "traces", "http://c:4318/v1/traces"),
        ("http://c:4318/", "metrics", "http://c:4318/v1/metrics"),
        ("https://vendor/otlp", "metrics", "https://vendor/otlp/v1/metrics"),
        ("http://c:4318/v1/traces", "metrics", "http://c:4318/v1/metrics"),
    ],
)
def test_the_flag_is_a_base_for_both_signals(otlp: str, signal: endpoint.Signal, want: str) -> None:
    assert endpoint.resolve(signal, otlp, "http/protobuf").url == want


def test_a_signals_own_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    set_all(
        monkeypatch,
        {
            "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf", "TIMEOUT": "3", "TRACES_TIMEOUT": "4.5",
            "COMPRESSION": "gzip", "HEADERS": "a=1", "TRACES_HEADERS": "b=2", "CERTIFICATE": str(ca),
        },
    )  # fmt: skip
    found = endpoint.resolve("traces")
    assert (found.protocol, found.timeout_s, found.compression) == ("http/protobuf", 4.5, "gzip")
    assert (found.headers, found.certificate) == ({"b": "2"}, str(ca))
    assert endpoint.resolve("metrics").protocol == "grpc"
    assert "2" not in repr(found.headers) or "headers" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROTOCOL", "http/json"), ("COMPRESSION", "zstd"), ("TIMEOUT", "soon"), ("TIMEOUT", "0"), ("CERTIFICATE", "/no")],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_all(monkeypatch, {name: value})
    with pytest.raises(UsageError, match=PREFIX + name):
        endpoint.resolve("traces")


def test_signals_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not endpoint.wanted("traces", None)
    assert endpoint.wanted("traces", "http://c:4317")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert not endpoint.wanted("metrics", "http://c:4317")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not endpoint.wanted("traces", "http://c:4317")
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(UsageError, match="OTEL_TRACES_EXPORTER"):
        endpoint.wanted("traces", "http://c:4317")


@pytest.mark.parametrize(
    ("protocol", "url"),
    [
        ("grpc", "http://localhost:notaport"), ("grpc", "httpx://a:1"), ("grpc", "http://"),
        ("http/protobuf", "notaurl"), ("http/protobuf", "localhost:4318"), ("http/protobuf", "ftp://a"),
    ],
)  # fmt: skip
def test_what_is_no_url_is_an_error(monkeypatch: pytest.MonkeyPatch, protocol: str, url: str) -> None:
    set_all(monkeypatch, {"ENDPOINT": url})
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        endpoint.resolve("traces", None, protocol)


@pytest.mark.parametrize(
    "url", ["collector:4317", "unix:///run/otel.sock", "dns:///collector:4317", "http://[::1]:4317"]
)
def test_names_that_grpc_understands(url: str) -> None:
    assert endpoint.resolve("traces", url, "grpc").url == url


@pytest.mark.parametrize("value", ["api-key=%E2%82%AC", "b%20d=1"])
def test_headers_that_cannot_be_sent_are_errors(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    set_all(monkeypatch, {"HEADERS": value})
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        endpoint.resolve("traces", "http://c:4317", "grpc")


def test_a_client_certificate_needs_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = tmp_path / "c.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    set_all(monkeypatch, {"CLIENT_CERTIFICATE": str(certificate)})
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_CLIENT_KEY: not given"):
        endpoint.resolve("traces", "https://c:4317", "grpc")


def test_what_is_no_certificate_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("garbage")
    set_all(monkeypatch, {"CERTIFICATE": str(tmp_path / "ca.pem")})
    with pytest.raises(UsageError, match="is not PEM"):
        endpoint.resolve("traces", "https://c:4317", "grpc")


def test_empty_variables_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "")
    set_all(monkeypatch, {"PROTOCOL": "", "COMPRESSION": "", "TIMEOUT": "", "HEADERS": ""})
    assert endpoint.wanted("traces", "http://c:4317")
    assert endpoint.resolve("traces", "http://c:4317").protocol == "grpc"


@pytest.mark.parametrize("value", ["Bearer abc==", "abc", "a=b,abc", "a=x\x01"])
def test_a_header_that_cannot_be_sent_is_refused_and_not_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The SDK leaves it out: the spans would go without their credentials."""
    set_all(monkeypatch, {"HEADERS": value})
    with pytest.raises(UsageError, match=r"OTEL_EXPORTER_OTLP_HEADERS: header \d ") as raised:
        endpoint.resolve("traces")
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://u:secret@h:4317", "u:secret@h:4317", "http://u:secret@[bad", "dns:u:secret@h"])
def test_a_password_is_not_asked_for_as_a_hosts_name(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """gRPC would have the whole authority resolved, password and all."""
    set_all(monkeypatch, {"ENDPOINT": url})
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_ENDPOINT") as raised:
        endpoint.resolve("traces", None, "grpc")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["//]", "unix://[", "http://[", "dns:\udc80", "unix:\udcdb"])
def test_what_cannot_be_taken_apart_is_a_mistake(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(PREFIX + "ENDPOINT", url)
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        endpoint.resolve("traces", None, "grpc")


@pytest.mark.parametrize(
    "url", ["dns:///h:4317", "dns:h:4317", "unix:/run/c.sock", "unix:///run/c.sock", "ipv6:[::1]:4317"]
)
def test_names_of_grpc_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(PREFIX + "ENDPOINT", url)
    assert endpoint.resolve("traces", None, "grpc").url == url


@pytest.mark.parametrize(
    ("otlp", "environment", "named"),
    [
        (None, {}, False),
        ("unix:///run/c.sock", {}, True),
        ("http://h:4317", {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "unix:/run/c.sock"}, True),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://unix:4317"}, False),
    ],
)
def test_a_unix_socket_is_told_from_other_receivers(otlp: str | None, environment: dict[str, str], named: bool) -> None:
    assert endpoint.names_unix_socket(otlp, environment) == named
