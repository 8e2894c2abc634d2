"""Text fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what a terminal would act on: control and formatting characters (a peer chooses its paths)."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
