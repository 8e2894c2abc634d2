"""The queries of a Grafana dashboard, as Grafana would send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILT_IN = {"__rate_interval": "30s", "__range": "1m"}
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
LABEL_VALUES = re.compile(r"label_values\((.*), (\w+)\)", re.DOTALL)


@dataclass(frozen=True)
class Query:
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.panel}: {self.expr}"

    def filled(self, chosen: dict[str, str]) -> str:
        """The query with its variables' values; KeyError for one that the dashboard does not define."""
        return filled(self.expr, chosen)


def filled(text: str, chosen: dict[str, str]) -> str:
    values = BUILT_IN | chosen
    return VARIABLE.sub(lambda found: values[found[1]], text)


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All that is shown, not the rows that part it."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[Query]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield Query(panel["title"], target["expr"])


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in board["templating"]["list"]}


def label_values(variable: dict[str, Any]) -> tuple[str, str]:
    """Selector and label of a variable that lists a label's values."""
    found = LABEL_VALUES.fullmatch(variable["query"]["query"])
    assert found, variable["query"]
    return found[1], found[2]
