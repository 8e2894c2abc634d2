"""Who: the order of sources, on a made-up /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringspan.identify import Identifier

from .rows import row

STAT = "77 (a b) S " + " ".join(["0"] * 18) + " 4242 0"


def process(proc: Path, cmdline: str, environ: str = "", cgroup: str = "0::/\n", exe: str = "/usr/bin/app") -> None:
    root = proc / "77"
    root.mkdir()
    (root / "stat").write_text(STAT)
    (root / "cmdline").write_text(cmdline.replace(" ", "\0") + "\0")
    (root / "environ").write_text(environ)
    (root / "cgroup").write_text(cgroup)
    (root / "exe").symlink_to(exe)


@pytest.mark.parametrize(
    ("cmdline", "environ", "cgroup", "want"),
    [
        ("app", "OTEL_SERVICE_NAME=shop\0", "0::/system.slice/other.service\n", "shop"),
        ("app", "OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=cart\0", "0::/\n", "cart"),
        ("app", "", "0::/system.slice/nginx.service\n", "nginx"),
        ("app", "", "0::/user.slice/user-0.slice/user@0.service/init.scope\n", "app"),
        ("python3 -u server.py", "", "0::/\n", "server"),
        ("/venv/bin/python /venv/bin/gunicorn app:app", "", "0::/\n", "gunicorn"),
        ("python3 -m http.server 80", "", "0::/\n", "http.server"),
        ("python3 -c pass", "", "0::/\n", "app"),
        ("java -Xmx1g -cp a:b com.example.Main arg", "", "0::/\n", "Main"),
        ("java -jar /opt/shop-1.2.jar", "", "0::/\n", "shop-1.2"),
        ("node /srv/web/index.js", "", "0::/\n", "index"),
    ],
)
def test_the_first_source_that_knows_wins(tmp_path: Path, cmdline: str, environ: str, cgroup: str, want: str) -> None:
    process(tmp_path, cmdline, environ, cgroup)
    assert Identifier(tmp_path)(row()).service_name == want


def test_a_process_that_is_gone_has_its_threads_name(tmp_path: Path) -> None:
    assert Identifier(tmp_path)(row()).service_name == "tester"
