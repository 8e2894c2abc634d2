"""How curl and wget are told what to send; both wait for it on standard input."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .plan import Call

Seen = tuple[int, int]  # status, response body bytes


@dataclass(frozen=True)
class Command:
    """A tool that takes its work from the command line; each batch gets a process."""

    batches: Callable[[Sequence[Call]], list[list[Call]]]
    argv: Callable[[Path, list[Call], Path], list[str]]
    stdin: Callable[[str, list[Call], Path], str]
    parse: Callable[[bytes, str], list[Seen]]  # from standard output and standard error


def _one_each(plan: Sequence[Call]) -> list[list[Call]]:
    return [[call] for call in plan]


def _all_at_once(plan: Sequence[Call]) -> list[list[Call]]:
    return [list(plan)]


def _body_file(folder: Path, body: bytes) -> str:
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(body)
    return file.name


def _curl_argv(program: Path, batch: list[Call], folder: Path) -> list[str]:
    return [str(program), "-q", "--config", "-"]


def _curl_stdin(url: str, batch: list[Call], folder: Path) -> str:
    """A configuration; "next" parts the requests, which share their connections."""
    return "next\n".join(_curl_section(url, call, folder) for call in batch)


def _curl_section(url: str, call: Call, folder: Path) -> str:
    lines = ["silent", "show-error", "globoff", "path-as-is", 'output = "/dev/null"']
    lines += ['write-out = "%{http_code} %{size_download}\\n"', f'url = "{url}{call.path}"']
    if call.method == "HEAD":
        lines.append("head")
    elif call.method != "GET":
        lines.append(f'request = "{call.method}"')
    if call.body is not None:
        lines.append(f'data-binary = "@{_body_file(folder, call.body)}"')
    lines += [f'header = "{name}: {value}"' for name, value in call.headers.items()]
    return "\n".join(lines) + "\n"


def _curl_parse(output: bytes, errors: str) -> list[Seen]:
    pairs = (line.split() for line in output.decode().splitlines())
    return [(int(status), int(size)) for status, size in pairs]


def _wget_argv(program: Path, batch: list[Call], folder: Path) -> list[str]:
    flags = "--no-config --no-hsts --no-verbose --tries=1 --max-redirect=0 --timeout=30"
    flags += " --content-on-error --server-response --output-document=- --input-file=-"
    call = batch[0]
    command = [str(program), *flags.split(), f"--method={call.method}"]
    if call.body is not None:
        command.append(f"--body-file={_body_file(folder, call.body)}")
    return command + [f"--header={name}: {value}" for name, value in call.headers.items()]


def _wget_stdin(url: str, batch: list[Call], folder: Path) -> str:
    return "".join(f"{url}{call.path}\n" for call in batch)


def _wget_parse(output: bytes, errors: str) -> list[Seen]:
    """wget shows the status line among its messages, and saves the decoded body."""
    found = re.search(r"^ *HTTP/[\d.]+ (\d{3})", errors, re.MULTILINE)
    return [(int(found[1]), len(output)) if found else (0, 0)]


COMMANDS: dict[str, Command] = {
    "curl": Command(_one_each, _curl_argv, _curl_stdin, _curl_parse),
    "curl-reuse": Command(_all_at_once, _curl_argv, _curl_stdin, _curl_parse),
    "wget": Command(_one_each, _wget_argv, _wget_stdin, _wget_parse),
}
