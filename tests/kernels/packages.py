"""Debian packages of other releases and architectures, by the machine's own apt, unpacked and not installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unit.harness import cache_folder

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = re.compile(r"/debian/?$")
SECURITY_MIRROR = re.compile(r"/debian-security/?$")


class LabUnavailable(Exception):
    """Why there can be no lab on this machine."""


def run(*command: str, **how: object) -> str:
    """Run a command; returns its output; raises LabUnavailable with its words."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **how)
    if done.returncode:
        raise LabUnavailable(f"{' '.join(command[:2])} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def folder(*names: str) -> Path:
    """Return a folder of the lab's in the tests' cache."""
    path = cache_folder().joinpath("kernels", *names)
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Source:
    """Suites of Debian for an architecture; the last one is preferred."""

    suites: tuple[str, ...]
    architecture: str

    @property
    def name(self) -> str:
        return f"{self.suites[-1]}-{self.architecture}"

    def _apt(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        state = folder("apt", self.name)
        options = {
            "APT::Architecture": self.architecture, "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "0", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
            "Dir::State": f"{state}", "Dir::State::status": f"{state}/status", "Dir::Cache": f"{state}/cache",
            "Dir::Etc::sourcelist": f"{state}/sources.list", "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferencesparts": "-", "Dir::Etc::preferences": "-", "Debug::NoLocking": "1",
        }  # fmt: skip
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        return run(command, *flags, *arguments, cwd=cwd)

    def _update(self) -> None:
        state = folder("apt", self.name)
        if (state / "updated").exists():
            return
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        uris = sorted(set(run("apt-get", "indextargets", "--format", "$(REPO_URI)").split()))
        lines = []
        for suite in self.suites:
            pattern = SECURITY_MIRROR if suite.endswith("-security") else MIRROR
            mirror = next((uri for uri in uris if pattern.search(uri)), "")
            if mirror:
                lines.append(f"deb [signed-by={KEYRING}] {mirror} {suite} main\n")
        if not lines:
            raise LabUnavailable("apt is not configured with a mirror of Debian")
        (state / "sources.list").write_text("".join(lines))
        self._apt("apt-get", "update", "-q", "--error-on=any")
        (state / "updated").touch()

    def needed(self, *packages: str) -> list[str]:
        """Return what an installation into nothing would unpack, as name=version."""
        self._update()
        said = self._apt("apt-get", "-s", "-t", self.suites[-1], "install", *packages)
        return [
            f"{name}={version}" for name, version in re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", said, re.MULTILINE)
        ]

    def unpack(self, packages: Sequence[str], to: Path) -> None:
        """Download packages and unpack them, over each other; all or nothing."""
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            self._apt("apt-get", "-q", "download", *packages, cwd=Path(work))
            made = Path(work, "made")
            _merge_usr(made)
            for package in sorted(Path(work).glob("*.deb")):
                with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
                    run("tar", "-x", "--keep-directory-symlink", "-C", str(made), stdin=tar.stdout)
            shutil.rmtree(to, ignore_errors=True)
            made.rename(to)


def _merge_usr(root: Path) -> None:
    """Make the links of a root whose programs and libraries are below usr/."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
