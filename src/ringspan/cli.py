"""The command line; errors of a user's making are caught here, once."""

from __future__ import annotations

import os
import signal

for _number in (signal.SIGINT, signal.SIGTERM):  # before all imports: a start that is interrupted has nothing to flush
    signal.signal(_number, lambda *_: os._exit(0))

import argparse
import io
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ringspan import __version__
from ringspan.errors import RingspanError, UsageError
from ringspan.printable import printable

STATUSES = (
    "Exit status: 0; 1 for anything else that failed, such as an output that cannot be written; 2 for a wrong flag or "
    "configuration; 3 where tracing is not possible; 128 and its number for the signal that ends at once."
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Describe the commands and flags."""
    top = Parser(
        prog="ringspan", description="Every HTTP request of this Linux host, as OpenTelemetry.", epilog=STATUSES
    )
    top.add_argument("--version", action="version", version=f"ringspan {__version__}")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    trace = commands.add_parser(
        "trace",
        help="trace HTTP requests",
        description="Trace the HTTP requests this host serves and makes.",
        epilog=STATUSES,
    )
    add_settings(trace)
    doctor = commands.add_parser(
        "doctor",
        help="say what this machine allows, and what to do about each no",
        description="Say what this machine allows, and which TLS libraries in use are followed by such settings.",
    )
    add_files(doctor)
    merged = commands.add_parser(
        "config", help="print the settings after file and flags", description="Print the settings, and who set each."
    )
    add_settings(merged)
    merged.add_argument("--schema", action="store_true", help="print the JSON Schema of a settings file instead")
    return top


def add_settings(command: argparse.ArgumentParser) -> None:
    """Describe the flags that are settings."""
    add = command.add_argument
    add(
        "--show",
        choices=["table", "lines", "json", "none"],
        help="what to print (default: table on a terminal, else lines)",
    )
    add("--interval", type=float, metavar="S", help="seconds between two tables or sets of lines (default 2)")
    add("--otlp", metavar="URL", help="send spans to this OTLP endpoint")
    add("--protocol", choices=["grpc", "http/protobuf"], help="OTLP protocol (default grpc)")
    add("--spans-per-second", type=float, metavar="N", help="budget of spans sent (default 2000; 0: no limit)")
    add(
        "--capture",
        choices=["auto", "tcp", "fentry", "kprobe", "syscall"],
        help="how to see traffic (default auto: tcp, else syscall)",
    )
    add("--role", choices=["server", "client", "both"], help="requests served here, made here, or both (default)")
    add("--pid", type=int, action="append", metavar="N", help="only this process (repeatable)")
    add("--port", type=int, action="append", metavar="N", help="only this server port (repeatable)")
    add("--exe", action="append", metavar="GLOB", help="only executables matching this (repeatable)")
    add("--tls", choices=["auto", "off"], help="HTTPS, by the functions of TLS libraries (default off)")
    add("--duration", type=float, metavar="S", help="stop after so many seconds")
    add(
        "--user",
        metavar="NAME",
        help="be this user once attached, with no capability (fewer names: docs/threat-model.md)",
    )
    add_files(command)


def add_files(command: argparse.ArgumentParser) -> None:
    """Describe the flags that say which files to attach to, and where more settings are."""
    add = command.add_argument
    add("--tls-include", action="append", metavar="GLOB", help="look for a TLS library in files like this (repeatable)")
    add("--tls-exclude", action="append", metavar="GLOB", help="do not attach to files like this (repeatable)")
    add("--config", type=Path, metavar="FILE", help="settings as YAML; see config/default.yaml")


def run_trace(flags: dict[str, Any]) -> int:
    """Merge the settings, start compiling the probe, and only then import what takes long."""
    from ringspan import config, doctor, privileges  # noqa: PLC0415
    from ringspan.executables import Executables  # noqa: PLC0415
    from ringspan.launch import launch  # noqa: PLC0415
    from ringspan.stop import Stop  # noqa: PLC0415

    file = flags.pop("config")
    stop = Stop(has_file=file is not None)
    default = "table" if sys.stdout.isatty() else "lines"

    def read() -> config.Settings:
        settings = config.merge(flags, file)
        return settings if settings.show else replace(settings, show=default)

    def read_again() -> config.Settings:
        if not (file and file.is_file() and file.stat().st_size):  # a pipe is empty by now: that would be all defaults
            raise UsageError(f"{file}: not a file that has something in it")
        return read()

    settings = read()
    doctor.require()
    if settings.user:
        privileges.check_user(settings.user)
    executables = Executables(settings.exe) if settings.exe else None
    starts = launch(settings, executables)
    privileges.limit(settings.user)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads would only wait: no matrix is multiplied here

    from ringspan import trace  # noqa: PLC0415

    return trace.run(trace.Run(settings, executables, stop, starts, read_again if file else None))


def run_doctor(flags: dict[str, Any]) -> int:
    """Print the doctor's report."""
    from ringspan import config, doctor  # noqa: PLC0415

    file = flags.pop("config")
    return doctor.run(config.merge(flags, file))


def run_config(flags: dict[str, Any]) -> int:
    """Print the settings."""
    from ringspan import merged  # noqa: PLC0415

    return merged.run(flags)


COMMANDS = {"trace": run_trace, "doctor": run_doctor, "config": run_config}


def give_streams() -> None:
    """Stand in for a standard stream that the caller has closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter shows its number
            stream.reconfigure(errors="backslashreplace")


class Formatter(logging.Formatter):
    """Log lines that may quote what others chose."""

    def format(self, record: logging.LogRecord) -> str:
        """Print a record, escaped line by line."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def main(argv: list[str] | None = None) -> NoReturn:
    """Run a command and leave with its status; never a traceback, unless RINGSPAN_DEBUG asks for it."""
    give_streams()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[log], level=logging.WARNING)
    try:
        flags = vars(parser().parse_args(argv))
        status = COMMANDS[flags.pop("command")](flags)
        sys.stdout.flush()
    except RingspanError as error:
        print(f"ringspan: {printable(str(error))}", file=sys.stderr)
        status = error.exit_status
    except BrokenPipeError:  # the reader of our output has left: no error of ours
        status = 0
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if os.environ.get("RINGSPAN_DEBUG"):
            raise
        what = f"cannot write: {error.strerror}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        print(f"ringspan: {printable(what)}; set RINGSPAN_DEBUG=1 for the place", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    os._exit(status)  # an exporter's thread may be inside a retry that lasts longer than a user waits


if __name__ == "__main__":
    main()
