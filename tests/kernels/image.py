"""Stock kernels as packages have them, and a first file system that goes on with the machine's own."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .packages import LabUnavailable, Source, folder, run

INIT = Path(__file__).with_name("init.sh")
MODULES = ("virtio_pci", "virtiofs", "overlay")
COMMANDS = ("sh", "mkdir", "mount", "insmod", "cat", "sleep", "reboot", "ln", "ifconfig", "hostname", "chroot", "sync", "echo", "[")  # fmt: skip
SPLIT_PACKAGES = re.compile(r"linux-(image|binary|modules)-\d\S*=")


@dataclass(frozen=True)
class Kernel:
    """A stock kernel: the newest that a release of Debian has for clouds."""

    name: str
    source: Source

    @property
    def architecture(self) -> str:
        return self.source.architecture

    def unpacked(self) -> Path:
        """Return the folder that it is unpacked in; downloads it at first."""
        root = folder("images") / self.source.name
        if not (root / "usr").exists():
            needed = self.source.needed(f"linux-image-cloud-{self.architecture}")
            self.source.unpack([one for one in needed if SPLIT_PACKAGES.match(one)], root)
        return root

    @property
    def release(self) -> str:
        """What its uname says."""
        return next(path.name for path in (self.unpacked() / "lib/modules").iterdir() if (path / "kernel").exists())

    @property
    def modules(self) -> Path:
        return self.unpacked() / "lib/modules" / self.release

    @property
    def image(self) -> Path:
        root = self.unpacked()
        return next(iter([*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]))


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return data


def _in_order(kernel: Kernel) -> list[Path]:
    """The modules that the start needs, after those that they need (kmod knows)."""
    root = kernel.unpacked()
    run("depmod", "-b", str(root), kernel.release)
    paths: dict[Path, None] = {}
    for name in MODULES:
        if not any(kernel.modules.rglob(f"{name}.ko*")):
            continue  # built in
        said = run("modprobe", "-d", str(root), "-S", kernel.release, "--show-depends", name)
        paths |= dict.fromkeys(Path(line.split()[1]) for line in said.splitlines() if line.startswith("insmod"))
    return list(paths)


def _busybox(architecture: str) -> Path:
    if architecture == run("dpkg", "--print-architecture").strip():
        return Path("/bin/busybox")
    root = folder(f"busybox-{architecture}")
    if not (root / "usr").exists():
        Source(("trixie",), architecture).unpack(["busybox-static"], root)
    return next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists())


def first_root(kernel: Kernel) -> Path:
    """Return the initramfs for a kernel: busybox, modules, init.sh."""
    made = kernel.unpacked() / "initramfs"
    if made.exists() and made.stat().st_mtime > INIT.stat().st_mtime:
        return made
    if not shutil.which("cpio"):
        raise LabUnavailable("cpio is not installed")
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        root = Path(work)
        for name in ("bin", "modules", "dev"):
            (root / name).mkdir()
        shutil.copy(_busybox(kernel.architecture), root / "bin/busybox")
        for name in COMMANDS:
            (root / "bin" / name).symlink_to("busybox")
        names = []
        for path in _in_order(kernel):
            names.append(path.name.partition(".")[0])
            (root / f"modules/{names[-1]}.ko").write_bytes(_module(path))
        (root / "order").write_text(" ".join(names))
        shutil.copy(INIT, root / "init")
        (root / "init").chmod(0o755)
        files = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=files.encode(), capture_output=True, check=True
        )
        made.with_suffix(".new").write_bytes(packed.stdout)
        made.with_suffix(".new").rename(made)
    return made
