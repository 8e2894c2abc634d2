"""Whom root trusts with its settings and keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringspan import config, trusted
from ringspan.errors import UsageError
from ringspan.otlp import endpoint

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root refuses, and only root can chown")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("interval: 5\n")
    path.chmod(0o644)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as raised:
        config.merge({}, path)
    return str(raised.value)


def test_a_file_of_roots_own_is_read(file: Path) -> None:
    assert config.merge({}, file).interval == 5


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_not(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert "writable by others" in refused(file)


def test_a_file_of_another_user_is_not_unless_it_was_they_who_called_sudo(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(file, NOBODY, 0)
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert f"owned by user {NOBODY}" in refused(file)
    monkeypatch.setenv("SUDO_UID", "1234")
    assert f"owned by user {NOBODY}" in refused(file)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    assert config.merge({}, file).interval == 5


def test_a_link_is_judged_by_where_it_leads(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert config.merge({}, link).interval == 5
    file.chmod(0o666)
    assert "writable by others" in refused(link)


def test_a_link_of_another_user_is_not_followed(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    link, folder = tmp_path / "link", tmp_path / "folder"
    link.symlink_to(file)
    folder.symlink_to(tmp_path)
    for one, path in ((link, link), (folder, folder / file.name)):
        os.chown(one, NOBODY, 0, follow_symlinks=False)
        assert f"{one} is a link of user {NOBODY}" in refused(path)


@pytest.mark.parametrize(("mode", "good"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_the_folder_counts_too(file: Path, mode: int, good: bool) -> None:
    """Who can write to it can put another file in the place; where it is sticky, as /tmp is, they cannot."""
    file.parent.chmod(mode)
    if good:
        assert config.merge({}, file).interval == 5
    else:
        assert "its folder" in refused(file)


def test_a_pipe_and_a_device_are_taken() -> None:
    read, write = os.pipe()
    os.write(write, b"interval: 7\n")
    os.close(write)
    assert config.merge({}, Path(f"/dev/fd/{read}")).interval == 7
    os.close(read)
    assert config.merge({}, Path("/dev/null")).interval == 2


@pytest.mark.parametrize("name", ["CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"])
def test_keys_and_certificates_are_judged_too(file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("-----BEGIN X-----\n")
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", str(file))
    endpoint.resolve("traces", "http://h", "http/protobuf")
    file.chmod(0o666)
    with pytest.raises(UsageError, match=f"OTEL_EXPORTER_OTLP_{name}: .*writable by others"):
        endpoint.resolve("traces", "http://h", "http/protobuf")


def test_who_is_not_root_may_read_what_they_like(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert trusted.read(file, 100, "x") == b"interval: 5\n"
