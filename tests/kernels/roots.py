"""A file system of another architecture for a guest: Debian's packages and ringspan's own needs, nothing of it configured."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

from .packages import Source, folder, run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "python3", "python3-bpfcc", "python3-seccomp", "bash", "dash", "coreutils", "grep", "sed", "iproute2", "procps",
    "libcap2-bin", "nginx", "mount", "util-linux", "gcc", "libc6-dev", "liburing-dev", "curl", "mawk",
)  # fmt: skip
TESTS_NEED = ("pytest", "pytest-timeout", "hypothesis", "h11", "trustme")
KEPT_OF_THIS_MACHINE = ("passwd", "group", "hosts", "nsswitch.conf")


def _python_packages() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {one.split(">")[0]: one for one in project["optional-dependencies"]["test"]}
    return [*project["dependencies"], *(wanted[name] for name in TESTS_NEED)]


def root_of(source: Source) -> Path:
    """Return the root for a source of packages; makes it at first, and when other packages are needed."""
    needs = hashlib.sha256("\n".join([*PACKAGES, *_python_packages()]).encode()).hexdigest()[:12]
    root = folder("roots") / f"{source.name}-{needs}"
    if root.exists():
        return root
    made = root.with_name(f"{root.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    source.unpack(source.needed(*PACKAGES), made)
    for name, program in (("sh", "dash"), ("cc", "gcc"), ("awk", "mawk")):  # what their installation would have made
        (made / "usr/bin" / name).unlink(missing_ok=True)
        (made / "usr/bin" / name).symlink_to(program)
    for name in KEPT_OF_THIS_MACHINE:
        shutil.copy(Path("/etc", name), made / "etc" / name)
    version = next(path.name.removeprefix("python") for path in (made / "usr/lib").glob("python3.*"))
    run(
        sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={version}", "--platform=manylinux2014_aarch64", "--platform=manylinux_2_17_aarch64",
        "--platform=manylinux_2_28_aarch64",
        f"--target={made}/usr/local/lib/python{version}/dist-packages", *_python_packages(),
    )  # fmt: skip
    for other in root.parent.glob(f"{source.name}*"):
        if other != made:
            shutil.rmtree(other)
    made.rename(root)
    return root
