"""Settings from anywhere: what is given is taken, or refused with a message; nothing else happens, and soon."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ringspan import cli, config, sampling, telemetry
from ringspan.errors import UsageError
from ringspan.otlp import endpoint

from .source import Source

SECONDS_MAX, MESSAGE_MAX = 5.0, 2000
FILE: list[Path] = []
FLAGS = (
    "trace", "doctor", "--show", "--interval", "--otlp", "--protocol", "--spans-per-second", "--capture", "--role", "--pid",
    "--port", "--exe", "--duration", "--config", "table", "both", "grpc", "8080", "nan", "1e400", "0x10", "-1", "--",
)  # fmt: skip
OTLP = "OTEL_EXPORTER_OTLP_"
NAMES = (
    "ENDPOINT", "TRACES_ENDPOINT", "METRICS_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL", "HEADERS", "TRACES_HEADERS", "TIMEOUT",
    "COMPRESSION", "CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "INSECURE", "TRACES_TIMEOUT",
)  # fmt: skip
OTHERS = (
    "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED",
    "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRICS_EXEMPLAR_FILTER",
)  # fmt: skip
STARTS = (
    "",
    "http://",
    "https://[",
    "unix:",
    "dns:///",
    "a=",
    "http://h:4317/",
    "grpc",
    "always_on",
    "1e309",
    "traceidratio",
)


def refused_or(work: Callable[[], Any]) -> Any:
    """What work returns; None if it refuses with a message of one readable line."""
    began = time.monotonic()
    try:
        return work()
    except UsageError as error:
        text = str(error)
        assert text
        assert len(text) < MESSAGE_MAX, len(text)
        return None
    finally:
        assert time.monotonic() - began < SECONDS_MAX


def _file() -> Path:
    if not FILE:
        FILE.append(Path(tempfile.mkdtemp(prefix="settings-")) / "settings.yaml")
    return FILE[0]


def check_yaml(data: bytes) -> int:
    """Any file is settings, or a mistake."""
    _file().write_bytes(data)
    settings = refused_or(lambda: config.merge({}, _file()))
    if settings is not None:
        assert config.merge({}, _file()) == settings
        _check_settings(settings)
    return 1


def _check_settings(settings: config.Settings) -> None:
    for key, (low, high, kind) in config.BOUNDS.items():
        value = getattr(settings, key)
        for one in value if isinstance(value, list) else [value]:
            assert one is None or (type(one) is kind and low <= one <= high), (key, value)
    assert settings.role in config.CHOICES["role"]
    assert all(type(glob) is str and glob for glob in settings.exe)


def check_flags(data: bytes) -> int:
    """Any command line is settings, or a mistake; --help and --version leave by SystemExit."""
    source = Source(data)
    words = ["trace"] if source.byte() & 3 else []
    while source:
        pick = source.byte()
        words.append(FLAGS[pick % len(FLAGS)] if pick < 0xC0 else source.text())
    if any(word.startswith(("-h", "--h", "--v")) for word in words):
        return 1  # --help, which prints

    def work() -> None:
        flags = vars(cli.parser().parse_args(words))
        if flags.pop("command") == "trace":
            file = flags.pop("config")
            _check_settings(config.merge(flags, file if file and "\0" in str(file) else None))

    refused_or(work)
    return 1


def environment(source: Source) -> dict[str, str]:
    """Variables as a process can have them: no NUL, any other byte."""
    out = {}
    while source:
        pick = source.byte()
        name = OTLP + NAMES[pick % len(NAMES)] if pick < 0xC0 else OTHERS[pick % len(OTHERS)]
        out[name] = (source.choice(STARTS) + source.text()).replace("\0", "")
    return out


def check_environment(data: bytes) -> int:
    """Any environment is a destination, or a mistake; certificates are only read where they are files."""
    source = Source(data)
    protocol = source.choice((None, "grpc", "http/protobuf"))
    otlp = source.choice((None, None, "http://127.0.0.1:4317"))
    with mock.patch.dict(os.environ, environment(source), clear=True):
        for signal in ("traces", "metrics"):
            if refused_or(lambda signal=signal: endpoint.wanted(signal, otlp)):
                found = refused_or(lambda signal=signal: endpoint.resolve(signal, otlp, protocol))
                assert found is None or 0 < found.timeout_s < float("inf")
        refused_or(sampling.rule_from_environment)
        refused_or(lambda: telemetry._number("OTEL_BSP_MAX_QUEUE_SIZE", 1))
    return 1


def check_exporters(data: bytes) -> int:
    """The same, up to the making of channels and exporters: slow, so not for millions."""
    source = Source(data)
    settings = config.Settings(protocol=source.choice((None, "grpc", "http/protobuf")))
    with mock.patch.dict(
        os.environ, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | environment(source), clear=True
    ):
        refused_or(lambda: telemetry.prepare(settings))
    return 1
