"""Why an exchange or a connect failed, as error.type and as a word for the live output. Listed in docs/glossary.md."""

from __future__ import annotations

import errno

from ringspan import contract

NAMES = contract.names("FAILURE_")
CONNECT_WORDS = {
    "ECONNREFUSED": "refused",
    "ECONNRESET": "reset",
    "EHOSTUNREACH": "unreachable",
    "ENETUNREACH": "unreachable",
}


def error_type(failure: int, error_number: int) -> str | None:
    """Return error.type: an errno's name, or a word of the documented list; None for no failure."""
    name = NAMES.get(failure, "unknown")
    if name == "none":
        return None
    if name == "errno":
        return errno.errorcode.get(error_number, f"errno {error_number}")
    return name


def connect_word(failure: int, error_number: int) -> str:
    """Return what stands for the endpoint in the live output of a failed connect."""
    word = error_type(failure, error_number) or "unknown"
    return CONNECT_WORDS.get(word, word)
