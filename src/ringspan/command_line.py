"""What a command line says a process is: the script or module an interpreter runs, a Java program's jar or class.

Code and arguments may hold secrets, and a name is sent with every metric: where an option is not understood there is
none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ringspan.interpreters import JAVA, OPTIONS, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETER = re.compile(rf"({'|'.join(OPTIONS)})[\d.]*")
NO_FILE = re.compile(r"[\s\0-\x1f\x7f\"'`()=;$|<>&{}?\\]")
GO_ON = ""
BY_FIRST_WORD = ("busybox", "toybox")  # many programs in one, which is told by what it is called


def name(arguments: bytes, executable: str = "") -> str | None:
    """Return what a command line (as in /proc/PID/cmdline) says, or None if it says nothing but its program.

    What interprets it is told by the executable, if that is known: a program may be called anything.
    """
    words = arguments.decode(errors="replace").rstrip("\0").split("\0")
    program = Path(executable).name
    if not executable or program in BY_FIRST_WORD:
        program = Path(words[0]).name
    if program == "java":
        return _java(words[1:]) or None
    match = INTERPRETER.fullmatch(program)
    return _script(OPTIONS[match[1]], words[1:]) if match else None


def program(arguments: bytes) -> str | None:
    """Return what a command line calls its program, if that looks like a file."""
    return _file(arguments.partition(b"\0")[0].decode(errors="replace"))


def _script(options: Options, words: list[str]) -> str | None:
    following = iter(words)
    for word in following:
        if word == "--":
            return _stem(next(following, "")) if options.has_end else None
        if word == "-" or word in options.code_words:
            return None
        if word.startswith("-") or (options.has_plus and word.startswith("+")):
            found = _option(options, word, following)
            if found != GO_ON:
                return found
        elif word not in options.subcommands:
            return _stem(word)
    return None


def _option(options: Options, word: str, following: Iterator[str]) -> str | None:
    """Pass over an option and its value; returns what it says runs, or None if nothing can be known of what follows."""
    if word in options.long_value:
        next(following, None)
        return GO_ON
    if options.has_letters and not word.startswith("--"):
        return _letters(options, word, following)
    option, equals, _ = word.partition("=")
    known = option in options.long_value or option in options.long_flags or option.startswith(options.long_prefixes)
    if known or (len(option) == 2 and option[1] in options.flags):
        return GO_ON
    is_code = option.startswith(("--eval", "--print", "--run", "--process"))
    return GO_ON if equals and word.startswith("--") and not is_code else None


def _letters(options: Options, word: str, following: Iterator[str]) -> str | None:
    for at, letter in enumerate(word[1:], 2):
        rest = word[at:]
        if letter in options.named:
            return (_stem if letter == "f" else _file)(rest or next(following, ""))
        if letter in options.value and not rest:
            next(following, None)
        if letter in options.value + options.rest:
            return GO_ON
        if letter in options.ending:
            return None if set(rest) & set(options.code) else GO_ON
        if letter in options.later:
            next(following, None)
        elif letter not in options.flags:  # a code letter too
            return None
    return GO_ON


def _file(word: str) -> str | None:
    """Return the name of a file, unless the word does not look like one: it may be code."""
    last = Path(word).name
    return last if last and not NO_FILE.search(word) and not re.search("[@:]", last) else None


def _stem(word: str) -> str | None:
    last = _file(word)
    return last and (Path(last).stem if "." in last else last)


def _java(words: list[str]) -> str | None:
    following = iter(words)
    for word in following:
        option, _, value = word.partition("=")
        if word == "-jar":
            return _stem(next(following, ""))
        if word == "-m" or option == "--module":
            return _class(value or next(following, ""))
        if word in JAVA.long_value:
            next(following, None)
        elif word.startswith("--"):
            if option == word and word not in JAVA.long_flags:
                return None
        elif not word.startswith(("-", "@")):
            return _class(word)
    return None


def _class(word: str) -> str | None:
    """Return the last part of a class name, with or without its module, or of a source file's."""
    last = _file(word)
    return last and last.removesuffix(".java").rsplit(".", 1)[-1]
