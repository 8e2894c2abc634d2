"""A machine with another kernel, emulated by QEMU, on this machine's own files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .image import Kernel, first_root
from .packages import LabUnavailable, folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE_SERVERS = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")  # QEMU's own until 7.2, then a program of its own
EMULATORS = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
MACHINES = {"amd64": "q35,graphics=off,usb=off,vmport=off", "arm64": "virt"}
PROCESSORS = {"amd64": "max,la57=off,smap=off,smep=off,avx=off,avx2=off,xsave=off", "arm64": "max,pauth=off"}
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
BOOT = "quiet loglevel=4 panic=-1 oops=panic mitigations=off nopti random.trust_cpu=on no_timer_check tsc=reliable audit=0 apparmor=0 rcupdate.rcu_expedited=1"
MEMORY = "2G"
BOOTS = 3
# One thread runs all processors in turn, and the guest's clock is how many instructions they have run: 1 ns each.
ACCELERATORS = {False: ["tcg,thread=multi,tb-size=512"], True: ["tcg,thread=single,tb-size=512", "-icount", "shift=0"]}
SAID = ("output", "console", "emulator.log")


@dataclass(frozen=True)
class Guest:
    """How a command is to find its machine: `root` is another file system than this machine's, `shown` folders of this
    machine to have there as well, `words` more of the kernel's command line; `counts`: its clock counts instructions.
    """

    environment: dict[str, str] = field(default_factory=dict)
    root: Path = Path("/")
    shown: Sequence[Path] = ()
    words: str = ""
    counts: bool = False


@dataclass(frozen=True)
class Ran:
    """What a command in a guest left."""

    status: int
    output: str
    seconds: float


HERE = Guest()


class GuestFailed(LabUnavailable):
    """Why a guest did not start, or did not come to its end."""


def missing() -> str:
    """Return why no guest can be run here; empty if one can."""
    if os.geteuid():
        return "needs root"
    if not any(Path(one).exists() for one in FILE_SERVERS):
        return "virtiofsd is not installed (Debian: qemu-system-common, or virtiofsd)"
    return ""


@contextmanager
def _files(job: Path) -> Iterator[Path]:
    """Serve this machine's files, all read-only but the job's folder; yields the socket of the server."""
    share, socket = job / "machine", job / "files.sock"
    share.mkdir()
    server = next(one for one in FILE_SERVERS if Path(one).exists())
    if server == FILE_SERVERS[0]:
        serve = f"{server} --socket-path={socket} -o source={share} -o cache=always -o sandbox=chroot -o xattr --thread-pool-size=0"
    else:
        serve = f"{server} --socket-path={socket} --shared-dir={share} --cache=always --sandbox=chroot --xattr"
    script = f"""
        mount --make-rprivate /
        mount --bind / {share}
        mount -o remount,bind,ro {share}
        mount --bind {job} {share}{job}
        exec {serve}
    """
    with (job / "files.log").open("w") as log:
        running = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 20
        while not socket.exists():
            if running.poll() is not None or time.monotonic() > end:
                raise LabUnavailable(f"virtiofsd: {(job / 'files.log').read_text().strip()[-500:]}")
            time.sleep(0.02)
        yield socket
    finally:
        running.kill()
        running.wait()


def _emulator(kernel: Kernel, job: Path, files: Path, guest: Guest) -> list[str]:
    a, root = kernel.architecture, "" if guest.root == Path("/") else guest.root
    return [
        EMULATORS[a], "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-accel", *ACCELERATORS[guest.counts], "-cpu", PROCESSORS[a], "-smp", "2", "-m", MEMORY,
        "-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on",
        "-machine", f"{MACHINES[a]},memory-backend=memory",
        "-kernel", str(kernel.image), "-initrd", str(first_root(kernel)),
        "-append", f"console={CONSOLES[a]} {BOOT} lab.job={job} lab.root={root} {guest.words}",
        "-chardev", f"file,id=console,path={job}/console", "-serial", "chardev:console",
        "-chardev", f"socket,id=files,path={files}", "-device", "vhost-user-fs-pci,chardev=files,tag=machine,queue-size=1024",
    ]  # fmt: skip


def _mounts(kernel: Kernel, shown: Sequence[Path]) -> str:
    """What init.sh does in the new root: the kernel's modules, without its headers; what another root lacks."""
    lines = [
        f"mkdir -p usr/lib/modules/{kernel.release}",
        f"mount --bind /machine{kernel.modules} usr/lib/modules/{kernel.release}",
    ]
    for path in shown:
        lines += [f"mkdir -p .{path}", f"mount --bind /machine{path} .{path}"]
    return "\n".join(lines) + "\n"


def run_in(
    kernel: Kernel, command: Sequence[str], *, timeout: float, guest: Guest = HERE, results: Path | None = None
) -> Ran:
    """Run a command under a kernel; in it $LAB_JOB is a folder that is kept as `results`.

    Raises GuestFailed if the guest did not start or did not end in time.
    """
    for _ in range(BOOTS):
        began = time.monotonic()
        job = Path(tempfile.mkdtemp(dir=folder("jobs")))
        try:
            exports = {"LAB_JOB": str(job), "PATH": os.environ["PATH"], "HOME": str(Path.home())}
            exports |= {"LAB_COUNTS": str(int(guest.counts))} | guest.environment
            lines = [f"cd {shlex.quote(str(Path.cwd()))}", "ulimit -l unlimited", "ulimit -n 65536"]
            lines += [f"export {name}={shlex.quote(value)}" for name, value in exports.items()]
            (job / "command").write_text("\n".join([*lines, f"exec {shlex.join(command)}", ""]))
            (job / "mounts").write_text(_mounts(kernel, [job, *guest.shown]))
            _emulate(kernel, job, guest, timeout)
            if (job / "status").exists():
                if results:
                    shutil.copytree(
                        job, results, dirs_exist_ok=True, ignore=shutil.ignore_patterns("machine", "*.sock")
                    )
                return Ran(int(_text(job / "status")), _text(job / "output"), time.monotonic() - began)
            said = "\n".join(f"{name}: {text[-1500:]}" for name in SAID if (text := _text(job / name)))
            if (job / "started").exists():  # else the emulator's fault: some starts of newer kernels end in a panic
                break
        finally:
            shutil.rmtree(job, ignore_errors=True)
    raise GuestFailed(f"Linux {kernel.name} did not come to an end within {timeout:.0f} s\n{said}")


def _emulate(kernel: Kernel, job: Path, guest: Guest, timeout: float) -> None:
    with _files(job) as files, (job / "emulator.log").open("w") as log, suppress(subprocess.TimeoutExpired):
        subprocess.run(
            _emulator(kernel, job, files, guest),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=timeout, check=False,
        )  # fmt: skip


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
