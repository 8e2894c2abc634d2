"""The TLS libraries in use on this host: which of them are followed, and why not the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ringspan.printable import printable
from ringspan.tls import libraries
from ringspan.tls.elf import NO_ELF, OTHER_MACHINE
from ringspan.tls.evidence import RUSTLS, Evidence
from ringspan.tls.libraries import DELETED, Mapped, Wanted
from ringspan.tls.places import GO, LIBRARY, NO_LIBRARY, NO_TLS
from ringspan.tls.survey import Content, Survey

SURE = ("libssl", "libgnutls.", "libboringssl")
GONE = "its file was deleted or replaced after it was loaded"
UNREADABLE = "its file cannot be read"
EXCLUDED, INCLUDED = "left out by --tls-exclude", ", by --tls-include"
NOT_INCLUDED = "shared libraries of such a name are followed only by --tls-include"
OTHER_GO = "it has no crypto/tls by this name: forks of it are not followed"
NO_OTHER = "{} is not followed"
IN_NAMES = {
    "libjvm.": "Java's own TLS (JSSE) is in no library: an in-process agent works",
    "libssl3.": NO_OTHER.format("NSS"),
    "libmbedtls": NO_OTHER.format("Mbed TLS"),
    "libwolfssl": NO_OTHER.format("wolfSSL"),
}
FOLLOWED = ("OpenSSL", "LibreSSL", "BoringSSL", "GnuTLS")


class Library(NamedTuple):
    """A file in use that holds a TLS library, or is named like one; `obstacle`: why it is not followed, if so."""

    path: str
    processes: int
    obstacle: str = ""
    version: str = ""
    by: str = ""

    def line(self) -> str:
        """Print it."""
        count = f"{self.processes} process{'es' if self.processes != 1 else ''}"
        built = f", {printable(self.version)}" if self.version else ""
        if self.obstacle:
            return f"no  TLS of {printable(self.path)} ({count}{built}): not followed: {printable(self.obstacle)}"
        return f"ok  TLS of {printable(self.path)} ({count}{built}): followed{self.by}"


def lines(wanted: Wanted) -> Iterator[str]:
    """Print what all processes have mapped of TLS libraries, and how many files were not looked into."""
    survey = Survey(wanted)
    for library in in_use(survey, wanted):
        yield library.line()
    for reason, count in sorted(survey.left_out.items()):
        if count:
            yield f"no  TLS of {count} other file{'s' if count != 1 else ''}: not looked into: {reason}"


def in_use(survey: Survey, wanted: Wanted) -> list[Library]:
    """Look into what all processes have mapped; what would be followed comes first, should that be too much."""
    users: dict[tuple[str, bytes, int], list[Mapped]] = defaultdict(list)
    for one in libraries.running():
        users[one.path, one.device, one.inode].append(one)
    found = sorted(users.items(), key=lambda item: (not wanted(item[0][0]), item))
    return sorted(one for (path, _, _), some in found for one in judged(path, some, survey, wanted))


def judged(path: str, some: list[Mapped], survey: Survey, wanted: Wanted) -> Iterator[Library]:
    """Say what a file that processes have mapped holds of TLS, if it does."""
    name = path.removesuffix(DELETED).rpartition("/")[2]
    of_name = next((words for prefix, words in IN_NAMES.items() if name.startswith(prefix)), "")
    content = None if of_name else survey.look_into(some)
    if of_name:
        yield Library(path, len(some), of_name)
    elif content and content.has_tls:
        yield from _held(path, len(some), content, wanted)
    elif not content and name.startswith(SURE):
        yield Library(path, len(some), UNREADABLE)


def _held(path: str, processes: int, content: Content, wanted: Wanted) -> Iterator[Library]:
    found, told = content.places, content.evidence
    version = found.version or str(told)
    obstacle = _obstacle(path, content, wanted)
    by = "" if Wanted()(path, content.real) else INCLUDED
    yield Library(path, processes, obstacle, version, by)
    if not obstacle and found.language == LIBRARY and RUSTLS in told.versions:
        yield Library(path, processes, NO_OTHER.format(RUSTLS), version)


def _obstacle(path: str, content: Content, wanted: Wanted) -> str:
    if wanted.excludes(path) or wanted.excludes(content.real):
        return EXCLUDED
    if content.is_gone:
        return GONE
    obstacle = content.places.obstacle
    if obstacle in (*NO_LIBRARY, NO_TLS):
        return _of_evidence(content.places.language, obstacle, content.evidence)
    return obstacle or ("" if wanted(path, content.real) else NOT_INCLUDED)


def _of_evidence(language: str, obstacle: str, told: Evidence) -> str:
    if language == GO:
        return OTHER_GO
    if told.versions and not set(FOLLOWED) & told.versions.keys():
        return NO_OTHER.format(" and ".join(told.versions))
    return OTHER_MACHINE if obstacle == NO_ELF else obstacle
