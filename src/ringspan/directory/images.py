"""The name of an image, taken apart (the reference grammar of container images: name, tag, digest)."""

from __future__ import annotations


def attributes(reference: str) -> dict[str, str]:
    """Return container.image.name without its tag, and the tag, if there is one, as a version."""
    name = reference.partition("@")[0]
    if not name or name.startswith("sha256:"):  # named by nothing but its content
        return {}
    before, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon is a port's
        return {"container.image.name": name}
    return {"container.image.name": before, "service.version": tag if tag != "latest" else ""}
