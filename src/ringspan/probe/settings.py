"""What the probe is told: which traffic is asked for, and how large its tables are."""

from __future__ import annotations

import json
import os
import platform
import secrets
from dataclasses import asdict, dataclass, field

ARCHITECTURES = {"x86_64": "RINGSPAN_X86_64", "aarch64": "RINGSPAN_ARM64"}
BIRTH_RING_BYTES = 1 << 20  # some hundred processes between two looks
EXECUTABLES_MAX = 65536
SERVERS_MAX = 4096  # processes that serve or ask


@dataclass(frozen=True)
class ProbeSettings:
    """Filters and sizes, as they go to the compiling child (as JSON)."""

    own_tgid: int
    own_namespace: tuple[int, int] | None = None  # device and inode, where it is that one's number
    capture: str = "auto"
    role: str = "both"
    pids: list[int] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    by_executable: bool = False
    executables: list[tuple[int, int, int, bool]] = field(default_factory=list)  # inode, device, ctime, wanted
    ring_bytes: int = 16 << 20
    connections: int = 16384
    exchanges: int = 8192
    calls: int = 8192
    attempts: int = 4096
    follow_tls: bool = False
    joins: bool = True
    client_from: str = ""

    def to_json(self) -> str:
        """Serialise for the child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProbeSettings:
        """Read what to_json wrote."""
        return cls(**json.loads(text))

    def flags(self, page_bytes: int) -> list[str]:
        """Return the settings as -D flags of the BPF program."""
        flags = [
            f"-D{ARCHITECTURES.get(platform.machine(), 'RINGSPAN_UNKNOWN')}",
            f"-DOWN_TGID={self.own_tgid}",
            f"-DUNIX_PAIR_SALT={secrets.randbits(63) | 1}ULL",
            f"-DRING_PAGES={self.ring_bytes // page_bytes}",
            f"-DBIRTH_PAGES={BIRTH_RING_BYTES // page_bytes}",
            f"-DCONNECTIONS_MAX={self.connections}",
            f"-DEXCHANGES_MAX={self.exchanges}",
            f"-DCALLS_MAX={self.calls}",
            f"-DATTEMPTS_MAX={self.attempts}",
            f"-DSERVERS_MAX={SERVERS_MAX}",
            f"-DEXECUTABLES_MAX={EXECUTABLES_MAX if self.by_executable else 1}",
        ]
        if self.own_namespace:
            device, inode = self.own_namespace
            encoded = os.major(device) << 20 | os.minor(device)  # as in the kernel (linux/kdev_t.h)
            flags += [f"-DOWN_NAMESPACE={inode}ULL", f"-DOWN_NAMESPACE_DEVICE={encoded}ULL"]
        flags += ["-DFOLLOW_TLS=1"] if self.follow_tls else []
        flags += ["-DJOINS=1"] if self.joins else []
        if self.client_from:
            flags.append("-DKEEP_PROXY=1" if self.client_from == "proxy" else "-DKEEP_FORWARDED=1")
        if self.role != "both":
            flags.append(f"-DFILTER_ROLE=ROLE_{self.role.upper()}")
        for wanted, flag in ((self.pids, "PIDS"), (self.ports, "PORTS"), (self.by_executable, "EXECUTABLES")):
            if wanted:
                flags.append(f"-DFILTER_{flag}=1")
        return flags
