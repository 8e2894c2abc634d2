"""A soak's samples as a picture: python bench/soak_picture.py SAMPLES.csv PICTURE.svg (needs the extra `bench`)."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np

POINTS = 240  # of a line: the picture stays small
TABLES = ("connections", "exchanges", "calls", "readers", "attempts")
Columns = dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]


def read(path: Path) -> Columns:
    """Read the samples by column; what was not known is NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def thinned(columns: Columns) -> Columns:
    """Keep the highest of each few samples, so that no peak is lost."""
    count = len(columns["seconds"])
    if count <= POINTS:
        return columns
    starts = np.linspace(0, count, POINTS, endpoint=False).astype(int)
    return {name: np.fmax.reduceat(column, starts) for name, column in columns.items()}


def draw(columns: Columns, path: Path) -> None:
    """Draw four panels over one time axis."""
    mpl.rcParams.update({"svg.fonttype": "none", "font.size": 8, "axes.grid": True, "grid.alpha": 0.3})
    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(9, 9), layout="constrained")
    few = thinned(columns)
    for panel, axis in zip((_memory, _tables, _exchanges, _spans), axes, strict=True):
        panel(axis, few["seconds"] / 60, few)
        axis.legend(loc="upper left", fontsize=7, ncols=4)
        axis.margins(x=0.01)
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, metadata={"Date": None})


def _memory(axis: Any, minutes: Any, few: Columns) -> None:
    axis.plot(minutes, few["rss_kb"] / 1024, label="resident, MB")
    axis.plot(minutes, few["anon_kb"] / 1024, label="anonymous, MB")
    axis.set_ylim(bottom=0)
    axis.plot(minutes, few["fds"], label="descriptors", linewidth=0.8)
    axis.plot(minutes, few["threads"], label="threads", linewidth=0.8)
    axis.set_title("ringspan's memory, descriptors and threads")


def _tables(axis: Any, minutes: Any, few: Columns) -> None:
    for name in TABLES:
        axis.plot(minutes, few[name], label=name, linewidth=0.8)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0)
    axis.set_title("entries of the BPF maps")


def _exchanges(axis: Any, minutes: Any, few: Columns) -> None:
    axis.plot(minutes, few["recorded"], label="recorded")
    for name in [one for one in few if one.startswith("lost_") or one == "connect_failures_recorded"]:
        axis.plot(minutes, few[name], label=name.replace("_", " "), linewidth=0.8)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0)
    axis.set_title("exchanges recorded and lost, failed connects (all so far)")


def _spans(axis: Any, minutes: Any, few: Columns) -> None:
    shown = ("ringspan.spans acknowledged", "ringspan.spans.queued", "ringspan.spans.exported")
    for name in [one for one in few if one in shown or one.startswith("ringspan.spans failed")]:
        axis.plot(minutes, few[name], label=name.removeprefix("ringspan.").replace("spans.", "spans "), linewidth=0.8)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0)
    axis.set_title("spans acknowledged (all so far), queued, on their way")


if __name__ == "__main__":
    draw(read(Path(sys.argv[1])), Path(sys.argv[2]))
