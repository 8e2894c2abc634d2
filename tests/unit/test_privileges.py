"""What is given up even where capabilities cannot be, tried in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_LIBCAP = """
import ctypes
load = ctypes.CDLL
def without(name, *args, **kwargs):
    if name and "libcap" in name:
        raise OSError("libcap.so.2: cannot open shared object file")
    return load(name, *args, **kwargs)
ctypes.CDLL = without
from ringspan import privileges
from ringspan.errors import UsageError
"""
SEALED = "print(load(None).prctl(39, 0, 0, 0, 0), load(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_{NO_NEW_PRIVS,DUMPABLE}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_LIBCAP + code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("how", ["limit(None)", "limit_to_attaching(by_events=False)"])
def test_without_libcap_no_privilege_can_be_gained_and_nobody_looks_in(how: str) -> None:
    done = run(f"privileges.{how}\n{SEALED}")
    assert done.stdout == "1 0\n"
    assert "all capabilities are kept: libcap.so.2: cannot open" in done.stderr


def test_without_libcap_no_other_user_is_promised() -> None:
    done = run("try:\n    privileges.check_user('root')\nexcept UsageError as error:\n    print(error)")
    assert done.stdout == "--user root: libcap.so.2 cannot be loaded; apt-get install libcap2\n"
