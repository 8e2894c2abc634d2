"""Where in a file breakpoints are to be put: at the functions of the TLS library that it holds."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

import capstone

from ringspan.probe import tls_functions
from ringspan.tls import golang, returns
from ringspan.tls.bounded import Bounded, Refused, open_file
from ringspan.tls.elf import NO_ELF, OTHER_MACHINE, Elf

LIBRARY, GO = "tls", "go"  # as the programs are named in bpf/tls_programs.h
NO_FUNCTIONS = "no function of OpenSSL or GnuTLS is named in it"
NO_TLS = "it has no crypto/tls"
NO_LIBRARY = (NO_FUNCTIONS, NO_ELF, OTHER_MACHINE)  # obstacles of most files


class Places(NamedTuple):
    """What is to be attached to: entries (by offset, with the function's number) and returns (of Go: the instructions).

    `obstacle`: why it is not followed, if so; `language`: of the programs that know how its functions are called.
    """

    language: str = LIBRARY
    entries: dict[int, int] = {}  # noqa: RUF012 - never written
    returns: dict[int, int] = {}  # noqa: RUF012
    obstacle: str = ""
    version: str = ""


def find(fd: int) -> Places:
    """Look into an open file."""
    language = LIBRARY
    try:
        elf = Elf(Bounded(fd))
        language = GO if golang.is_go(elf) else LIBRARY
        go = golang.look_into(elf, tls_functions.GO)
        return _of_go(elf, go) if go else _of_library(elf)
    except Refused as refused:
        return Places(language, obstacle=str(refused))
    except (OSError, ValueError, OverflowError, MemoryError, struct.error, capstone.CsError) as error:
        return Places(obstacle=f"it cannot be read ({error})")


def find_in(path: str) -> Places:
    """Look into a file by its path."""
    try:
        fd = open_file(path)
    except OSError as error:
        return Places(obstacle=error.strerror or str(error))
    try:
        return find(fd)
    finally:
        os.close(fd)


def _of_go(elf: Elf, go: golang.Go) -> Places:
    if not tls_functions.are_enough(go.functions):
        return Places(GO, obstacle=NO_TLS, version=go.version)
    entries: dict[int, int] = {}
    left: dict[int, int] = {}
    for name, span in go.functions.items():
        function = tls_functions.GO[name]
        entries[span.offset] = function.number
        if function.returns:
            left |= dict.fromkeys(returns.places(elf, span), function.number)
    return Places(GO, entries, left, version=go.version)


def _of_library(elf: Elf) -> Places:
    found = elf.functions(tls_functions.BY_NAME)
    if not tls_functions.are_enough(found):
        return Places(obstacle=NO_FUNCTIONS)
    entries: dict[int, int] = {}
    left: dict[int, int] = {}
    for name, span in found.items():
        function = tls_functions.BY_NAME[name]
        try:
            ends = returns.places(elf, span, may_leap=function in tls_functions.MAY_LEAP) if function.returns else []
        except Refused:
            if function is not tls_functions.WITHIN:
                raise
            continue  # few call it: the others are followed all the same
        entries[span.offset] = function.number
        left |= dict.fromkeys(ends, function.number)
    return Places(LIBRARY, entries, left)
