"""What a command line says a process is: the script or module an interpreter runs, a Java program's jar or class."""

from __future__ import annotations

import re
from pathlib import Path

INTERPRETER = re.compile(r"(python|perl|ruby|node|nodejs|php|bash|sh|dash|deno|bun)[\d.]*$")
# Options that take the next word for their value, by interpreter (without its version).
TAKE_VALUE = {
    "python": {"-W", "-X", "--check-hash-based-pycs"},
    "perl": {"-I", "-M", "-m", "-x"},
    "ruby": {"-I", "-r", "-C", "-E", "-x", "--require"},
    "node": {
        "-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file",
        "--inspect-port", "--icu-data-dir", "--openssl-config", "--title", "--dns-result-order",
        "--max-old-space-size", "--diagnostic-dir", "--input-type", "--experimental-default-type",
    },
    "php": {"-c", "-d", "-z", "-S", "-t"},
    "bash": {"-O", "-o", "+O", "+o", "--rcfile", "--init-file"},
    "sh": {"-o", "+o"},
    "dash": {"-o", "+o"},
    "deno": {"--config", "-c", "--import-map", "--env-file"},
    "bun": {"-r", "--preload", "--config", "-c", "--env-file", "--cwd"},
    "java": {
        "-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules",
        "--enable-native-access", "--add-reads", "--add-exports", "--add-opens", "--limit-modules",
        "--patch-module", "--source",
    },
}  # fmt: skip
# Options that say that what runs stands on the command line itself.
CODE = {
    "python": {"-c"}, "perl": {"-e", "-E"}, "ruby": {"-e"}, "node": {"-e", "--eval", "-p", "--print", "-pe"},
    "php": {"-r"}, "bash": {"-c"}, "sh": {"-c"}, "dash": {"-c"}, "deno": {"eval"}, "bun": {"-e", "--eval", "-p"},
}  # fmt: skip
for _table in (TAKE_VALUE, CODE):
    _table["nodejs"] = _table["node"]
SUBCOMMANDS = {"run", "start", "serve", "task"}  # of deno and bun


def name(arguments: bytes) -> str | None:
    """Return what a command line (as in /proc/PID/cmdline) says, or None if it says nothing but its program."""
    words = arguments.decode(errors="replace").rstrip("\0").split("\0")
    program = Path(words[0]).name
    if program == "java":
        return _java(words[1:])
    match = INTERPRETER.match(program)
    return _script(match[1], words[1:]) if match else None


def _script(interpreter: str, words: list[str]) -> str | None:
    following = iter(words)
    for word in following:
        if word == "-m" and interpreter == "python":
            return next(following, None)
        if word in TAKE_VALUE[interpreter]:
            next(following, None)
        elif word == "-" or word in CODE[interpreter]:
            return None
        elif word == "--" or word.startswith("-") or (interpreter in ("deno", "bun") and word in SUBCOMMANDS):
            continue
        else:
            return _stem(word)
    return None


def _stem(path: str) -> str:
    file = Path(path)
    return file.stem if "." in file.name else file.name


def _java(words: list[str]) -> str | None:
    following = iter(words)
    for word in following:
        if word == "-jar":
            return Path(next(following, "java")).stem
        if word in ("-m", "--module"):
            return _class(next(following, "java"))
        if word in TAKE_VALUE["java"]:
            next(following, None)
        elif not word.startswith(("-", "@")):
            return _class(word)
    return None


def _class(word: str) -> str:
    """Return the last part of a class name, with or without its module, or of a source file's."""
    return word.removesuffix(".java").rsplit("/", 1)[-1].rsplit(".", 1)[-1]
