"""Registers the marker of the peers' self-check."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peers: checks the real servers and clients themselves")
