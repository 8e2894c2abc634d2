"""The settings as a JSON Schema, for editors: made of the tables that check them, and of default.yaml's comments."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

from ringspan import config, rules
from ringspan.files import config_folder

LINE = re.compile(r"(?:([a-z_]+):[^#]*|\s+)#\s*(.*)")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT = {"type": ["string", "integer"]}  # ringspan.values.text
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
        return {"type": TYPES[kind], "minimum": kind(low), "maximum": kind(high)}
    if key in config.URLS:
        return {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}
    return TEXT if key in config.LISTS else {"type": "string", "minLength": 1}


def _some(one: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _rule() -> dict[str, Any]:
    glob = _some(TEXT)
    match = dict.fromkeys((*rules.OF_PROCESS, "path"), glob) | {
        "environment": _mapping(dict.fromkeys(rules.VARIABLES, glob)),
        "port": _some({"type": "integer", "minimum": rules.PORT[0], "maximum": rules.PORT[1]}),
        "role": {"enum": list(rules.ROLES)},
    }
    done = {
        "set": {
            "type": "object",
            "propertyNames": {"pattern": f"^{rules.SETTABLE.pattern}$"},
            "additionalProperties": TEXT,
            "maxProperties": rules.ATTRIBUTES_MAX,
        },
        "drop": {"type": "boolean"},
        "sample": {"type": "number", "minimum": rules.SHARE[0], "maximum": rules.SHARE[1]},
        "traces": {"type": "boolean"},
    }
    whole = _mapping({"name": TEXT, "match": _mapping(match)} | done)
    return whole | {"anyOf": [{"required": [key]} for key in done]}


def _route() -> dict[str, Any]:
    template = {"type": "string", "pattern": "^/"}
    text = TEXT
    whole = _mapping({"service": text, "template": _some(template), "openapi": text})
    return {"anyOf": [template, whole | {"anyOf": [{"required": ["template"]}, {"required": ["openapi"]}]}]}


def _property(key: str, default: Any, description: str) -> dict[str, Any]:
    one = _one(key)
    if key == "rules":
        kind: dict[str, Any] = {"type": "array", "items": _rule(), "maxItems": rules.RULES_MAX}
    elif key.startswith("redact_"):
        text = {"type": "string", "pattern": "^/"} if key == "redact_paths" else TEXT
        kind = {"anyOf": [{"type": "array", "items": text, "maxItems": config.LIST_MAX}, text]}
    elif key == "routes":
        kind = {"type": "array", "items": _route(), "maxItems": config.LIST_MAX}
    elif key in config.LISTS:
        kind = {"anyOf": [{"type": "array", "items": one, "maxItems": config.LIST_MAX}, one]}
    else:
        kind = one
    return {
        "description": description,
        "default": default,
        "anyOf": [*kind.get("anyOf", [kind]), {"type": "null"}],
    }


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
