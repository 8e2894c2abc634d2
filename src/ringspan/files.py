"""Where the project's own non-Python files are: beside the package in a wheel, at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def bpf_folder() -> Path:
    """Return the folder of the C sources."""
    packaged = PACKAGE / "bpf"
    return packaged if packaged.is_dir() else PACKAGE.parents[1] / "bpf"


def config_folder() -> Path:
    """Return the folder of default.yaml and its companions."""
    packaged = PACKAGE / "config_files"
    return packaged if packaged.is_dir() else PACKAGE.parents[1] / "config"
