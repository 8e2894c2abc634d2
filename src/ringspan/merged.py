"""`ringspan config`: the settings as they are after file and flags, and who set each; secrets are not printed."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ringspan import config, redact, schema


class Dumper(yaml.SafeDumper):
    """Quotes what config.Loader would not read as text."""


Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *config.Loader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *config.Loader.yaml_implicit_resolvers}
}


def _safe(key: str, value: Any) -> Any:
    return redact.setting(value) if key in config.URLS and value else value


def text(flags: dict[str, Any], file: Path | None) -> str:
    """Print the merged settings as YAML that --config would take; raises UsageError."""
    settings = config.merge(flags, file)
    in_file, on_line = config.read_file(file) if file else {}, config.given(flags)
    lines = []
    for key, value in asdict(settings).items():
        source = "flag" if key in on_line else "file" if in_file.get(key) is not None else "default"
        printed = (
            yaml.dump({key: _safe(key, value)}, Dumper=Dumper, sort_keys=False, width=1000).rstrip("\n").split("\n")
        )
        lines += [f"{printed[0]}  # {source}", *printed[1:]]
    return "\n".join([*lines, *_variables()]) + "\n"


def _variables() -> list[str]:
    """Name the variables that count too; their values may be secrets."""
    names = sorted(name for name in os.environ if name.startswith("OTEL_"))
    return [f"# variables that are set (values not shown): {', '.join(names)}"] if names else []


def run(flags: dict[str, Any]) -> int:
    """Print settings, or with --schema what they may be."""
    file = flags.pop("config")
    print(schema.text() if flags.pop("schema") else text(flags, file), end="")
    return 0
