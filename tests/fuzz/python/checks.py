"""Every check by name, with the longest input worth trying."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ringspan import telemetry

from . import parents, processes, records, settings, urls


class Check(NamedTuple):
    """A function that takes bytes, returns how many things it has checked, and raises if one is wrong."""

    function: Callable[[bytes], int]
    bytes_max: int
    seeds: tuple[bytes, ...] = ()


telemetry.silence_sdk()  # which says what a peer sent, as in a real run
SECRETS = (bytes(8), b"\x01" + bytes(8), b"\x02", b"\x03\0\x05abcde")
YAML = (b"port: [80]\nrole: client\n", b"a: &a [x]\nexe: *a\n", b"interval: 0x10\nduration: .inf\notlp: http://a\n")
CHECKS = {
    "records": Check(records.check_records, 192, (b"\0\x03\0", b"\x01\xffabc", b"\x01\x02\x01\x00\x00\x05/?a=1")),
    "secrets": Check(urls.check_secrets, 128, SECRETS),
    "ways_out": Check(urls.check_ways_out, 128, SECRETS),
    "parents": Check(parents.check_parents, 160, (bytes(4), b"\0\0a=1,b=2", b"\x01\x371" + parents.WIRE)),
    "yaml": Check(settings.check_yaml, 96, YAML),
    "flags": Check(settings.check_flags, 64, (b"\x01\x09\x11",)),
    "environment": Check(settings.check_environment, 96, (b"\x01\0\0\x01\x04h:80",)),
    "ring": Check(records.check_ring, 64, (b"\0\0\x05", b"\0\x01" + bytes(8) + b"\x01")),
    "births": Check(records.check_births, 96, (bytes(4),)),
    "targets": Check(urls.check_targets, 96, (b"\0\0\x0dhttp://u:p@h/",)),
    "processes": Check(processes.check_process, 96, (bytes(12),)),
    "stat": Check(processes.check_stat, 16),
    "cgroups": Check(processes.check_cgroups, 32),
    "exporters": Check(settings.check_exporters, 96, (b"\x01\0\x04h:80",)),
}
