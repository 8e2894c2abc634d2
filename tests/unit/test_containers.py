"""Real control groups' paths, and what they say."""

from __future__ import annotations

import pytest

from ringspan.containers import Placement, placement
from ringspan.naming import Process, identity_of

ID, INNER = "4f9b0e6b7a" + "c1d2e3f405" * 5 + "abcd", "e" * 64
UID = "5a1c9f3e-0b2d-4c6e-8f10-123456789abc"
UNDERSCORED = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
V1 = "12:pids:{0}\n11:memory:{0}\n1:name=systemd:{0}\n0::/\n"
CASES = [
    # The host's own.
    ("0::/", Placement()),
    ("0::/init.scope", Placement()),
    ("0::/system.slice/nginx.service", Placement(unit="nginx.service")),
    (V1.format("/system.slice/nginx.service"), Placement(unit="nginx.service")),
    ("0::/system.slice/system-getty.slice/getty@tty1.service", Placement(unit="getty@tty1.service")),
    ("0::/system.slice/postgresql@15-main.service/worker", Placement(unit="postgresql@15-main.service")),
    ("0::/user.slice/user-1000.slice/session-3.scope", Placement()),
    (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
        Placement(),
    ),
    (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
        Placement(inner="syncthing.service"),
    ),
    ("0::/user.slice/user-0.slice/user@0.service/a.slice/user@1.service", Placement(inner="user@1.service")),
    ("0::/system.slice/web.service/nginx.service", Placement(unit="web.service", inner="nginx.service")),
    # Docker.
    (f"0::/system.slice/docker-{ID}.scope", Placement(container_id=ID, runtime="docker")),
    (f"0::/docker/{ID}", Placement(container_id=ID, runtime="docker")),
    (V1.format(f"/docker/{ID}"), Placement(container_id=ID, runtime="docker")),
    (
        f"0::/system.slice/docker-{ID}.scope/system.slice/nginx.service",
        Placement("", ID, "docker", "", "nginx.service"),
    ),
    (f"0::/docker/{ID}/docker/{INNER}", Placement(container_id=INNER, runtime="docker")),
    ("0::/system.slice/docker.service", Placement(unit="docker.service")),
    (f"0::/../../docker/{ID}", Placement(container_id=ID, runtime="docker")),
    # Docker's and containerd's in Kubernetes.
    (f"0::/kubepods/burstable/pod{UID}/{ID}", Placement(container_id=ID, pod_uid=UID)),
    (V1.format(f"/kubepods/besteffort/pod{UID}/{ID}"), Placement(container_id=ID, pod_uid=UID)),
    (V1.format(f"/kubepods/pod{STATIC}/{ID}"), Placement(container_id=ID, pod_uid=STATIC)),
    (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        Placement(container_id=ID, runtime="containerd", pod_uid=UID),
    ),
    (
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{ID}.scope",
        Placement(container_id=ID, runtime="docker", pod_uid=UID),
    ),
    (
        f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        Placement(container_id=ID, runtime="containerd", pod_uid=UID),
    ),
    (
        V1.format(f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDERSCORED}.slice:cri-containerd:{ID}"),
        Placement("containerd.service", ID, "containerd", UID),
    ),
    (f"0::/system.slice/nerdctl-{ID}.scope", Placement(container_id=ID, runtime="containerd")),
    (f"0::/default/{ID}", Placement(container_id=ID)),
    ("0::/default/web", Placement()),
    # CRI-O.
    (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{ID}.scope",
        Placement(container_id=ID, runtime="cri-o", pod_uid=UID),
    ),
    (
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{ID}.scope/container",
        Placement(container_id=ID, runtime="cri-o", pod_uid=UID),
    ),
    (
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-conmon-{ID}.scope",
        Placement(pod_uid=UID),
    ),
    (V1.format(f"/kubepods/pod{UID}/crio-{ID}"), Placement(container_id=ID, runtime="cri-o", pod_uid=UID)),
    # Podman.
    (f"0::/machine.slice/libpod-{ID}.scope", Placement(container_id=ID, runtime="podman")),
    (f"0::/machine.slice/libpod-{ID}.scope/container", Placement(container_id=ID, runtime="podman")),
    (f"0::/machine.slice/libpod-{ID}.scope/libpod-payload-{ID}", Placement(container_id=ID, runtime="podman")),
    (f"0::/machine.slice/libpod-conmon-{ID}.scope", Placement()),
    (V1.format(f"/libpod_parent/libpod-{ID}"), Placement(container_id=ID, runtime="podman")),
    (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        Placement(container_id=ID, runtime="podman"),
    ),
    (
        f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}",
        Placement("", ID, "podman", "", "web.service"),
    ),
    # What only looks like one.
    (f"0::/system.slice/{ID}.service", Placement(unit=f"{ID}.service")),
    (f"0::/docker/{ID[:-1]}", Placement()),
    (f"0::/docker/{ID}a", Placement()),
    (f"0::/docker/{ID.upper()}", Placement()),
    ("0::/kubepods/podcast/web", Placement()),
    ("", Placement()),
]


@pytest.mark.parametrize(("cgroup", "want"), CASES)
def test_what_a_path_says(cgroup: str, want: Placement) -> None:
    assert placement(cgroup) == want
    assert placement(f"{cgroup}\n") == want


@pytest.mark.parametrize("unit", ["run-u123", "run-r0123456789abcdef0123456789abcdef", "run-p4321-i8765"])
def test_a_unit_that_lives_for_one_run_names_no_service(unit: str) -> None:
    for cgroup in (f"0::/system.slice/{unit}.service\n", f"0::/system.slice/{unit}.scope\n"):
        process = Process(b"python3\0/srv/shop.py\0", b"", cgroup, "/usr/bin/python3")
        assert identity_of(process).service_name == "shop"
