"""The settings as a JSON Schema, for editors: made of the tables that check them, and of default.yaml's comments."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

from ringspan import config, networks, routes, rules, templates
from ringspan.files import config_folder

LINE = re.compile(r"(?:([a-z_]+):[^#]*|\s+)#\s*(.*)")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT = {"type": ["string", "integer"], "pattern": r"^[^\u0000]+$"}  # ringspan.values.text
TEMPLATE = {"type": "string", "pattern": templates.FORM, "maxLength": templates.TEMPLATE_MAX}
TYPES = {float: "number", int: "integer"}


def _descriptions() -> dict[str, str]:
    """Read what default.yaml says of each setting."""
    out: dict[str, str] = {}
    key = ""
    for line in (config_folder() / "default.yaml").read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line)
        key = match[1] or key if match else ""
        if match and key:
            out[key] = f"{out[key]} {match[2].strip()}" if key in out else match[2].strip()
    return out


def _one(key: str) -> dict[str, Any]:
    if key in config.CHOICES:
        return {"enum": list(config.CHOICES[key])}
    if key in config.SWITCHES:
        return {"type": "boolean"}
    if key in config.BOUNDS:
        low, high, kind = config.BOUNDS[key]
        if key == "ring_bytes":
            return {"enum": [1 << bit for bit in range(64) if low <= 1 << bit <= high]}
        return {"type": TYPES[kind], "minimum": kind(low), "maximum": kind(high)}
    if key in config.URLS:
        return {"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://\S"}
    return SPECIAL.get(key, TEXT)


def _some(one: dict[str, Any], most: int, least: int = 1) -> dict[str, Any]:
    return {"anyOf": [{"type": "array", "items": one, "minItems": least, "maxItems": most}, one]}


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _rule() -> dict[str, Any]:
    glob = _some(TEXT, rules.RULES_MAX)
    match = dict.fromkeys(rules.OF_PROCESS, glob) | {
        "path": _some({"type": "string", "pattern": f"^{rules.PATH.pattern}[^\\u0000]*$"}, rules.RULES_MAX),
        "environment": _mapping(dict.fromkeys(rules.VARIABLES, glob)) | {"minProperties": 1},
        "port": _some({"type": "integer", "minimum": rules.PORT[0], "maximum": rules.PORT[1]}, rules.RULES_MAX),
        "role": {"enum": list(rules.ROLES)},
    }
    done = {
        "set": {
            "type": ["object", "null"],
            "propertyNames": {"pattern": f"^(?!{'|'.join(map(re.escape, rules.OURS))}){rules.SETTABLE.pattern}$"},
            "additionalProperties": TEXT,
            "maxProperties": rules.ATTRIBUTES_MAX,
        },
        "drop": {"type": "boolean"},
        "sample": {"type": "number", "minimum": rules.SHARE[0], "maximum": rules.SHARE[1]},
        "traces": {"type": "boolean"},
    }
    whole = _mapping({"name": TEXT, "match": _mapping(match)} | done)
    named_by_path = {"match": {"required": ["path"]}, "set": {"type": "object", "minProperties": 1}}
    return whole | {
        "anyOf": [{"required": [key]} for key in done],
        "not": {"required": list(named_by_path), "properties": named_by_path},
    }


def _route() -> dict[str, Any]:
    template = _some(TEMPLATE, routes.SOURCES_MAX)
    whole = _mapping({"service": TEXT, "template": template, "openapi": TEXT})
    return {"anyOf": [TEMPLATE, whole | {"anyOf": [{"required": ["template"]}, {"required": ["openapi"]}]}]}


SPECIAL: dict[str, dict[str, Any]] = {
    "user": TEXT | {"type": "string"},
    "trusted_proxies": {"type": "string", "pattern": networks.FORM},
    "rules": _rule(),
    "routes": _route(),
    "redact_paths": TEMPLATE,
}


def _property(key: str, default: Any, description: str) -> dict[str, Any]:
    one = _one(key)
    most = rules.RULES_MAX if key == "rules" else config.LIST_MAX
    kinds = _some(one, most, 0)["anyOf"] if key in config.LISTS or key in config.NESTED else [one]
    return {"description": description, "default": default, "anyOf": [*kinds, {"type": "null"}]}


def schema() -> dict[str, Any]:
    """Return the schema."""
    said = _descriptions()
    defaults = config.Settings()
    return {
        "$schema": DIALECT,
        "title": "Settings of ringspan",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            one.name: _property(one.name, getattr(defaults, one.name), said[one.name]) for one in fields(defaults)
        },
    }


def text() -> str:
    """Return the schema as a file has it."""
    return json.dumps(schema(), indent=1) + "\n"
