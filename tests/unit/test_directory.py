"""Names of containers and pods, asked of servers that speak as Docker's engine and a kubelet do."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from ringspan import identify
from ringspan.config import Settings
from ringspan.directory import chosen, images, keep, kubelet, runtime
from ringspan.directory.keep import Directories, Directory
from ringspan.errors import UsageError
from ringspan.naming import Process, identity_of

from .rows import row

ID, OTHER = "4f9b0e6b7ac1d2e3" * 4, "0123456789abcdef" * 4
UID = "5a1c9f3e-0b2d-4c6e-8f10-123456789abc"
ROW = {"tgid": 7, "comm": b"app"}
Answer = Callable[[BaseHTTPRequestHandler], None]


def eventually(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 10
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.01)
    return value


@contextmanager
def serving(server_class: Any, address: Any, answer: Answer) -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

        def address_string(self) -> str:
            return ""

    server = server_class(address, Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(to: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    to.send_response(status)
    to.send_header("Content-Length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


class Engine:
    """Answers like Docker's engine; `changed` makes it tell of an event."""

    def __init__(self, *containers: dict[str, Any]) -> None:
        self.containers = list(containers)
        self.events = threading.Semaphore(0)
        self.ended = False

    def __call__(self, to: BaseHTTPRequestHandler) -> None:
        if to.path.startswith("/containers/json?"):
            send(to, json.dumps(self.containers).encode())
            return
        to.send_response(200)
        to.end_headers()
        while self.events.acquire() and not self.ended:
            to.wfile.write(b'{"status":"create"}\n')
            to.wfile.flush()

    def change(self) -> None:
        self.events.release()


@contextmanager
def engine(tmp_path: Path, answers: Engine) -> Iterator[Directory]:
    path = str(tmp_path / "engine.sock")
    with serving(socketserver.ThreadingUnixStreamServer, path, answers):
        found = runtime.directory(path)
        found.start()
        yield found
        answers.ended = True
        answers.change()


def container(identifier: str, name: str, image: str) -> dict[str, Any]:
    return {"Id": identifier, "Names": ["/peer/alias", f"/{name}"], "Image": image, "ImageID": "sha256:12"}


def test_containers_that_run_and_those_that_begin(tmp_path: Path) -> None:
    answers = Engine(container(ID, "web", "shop/web:1.4"))
    with engine(tmp_path, answers) as found:
        assert found.get(ID) == {
            "container.name": "web",
            "container.image.name": "shop/web",
            "container.image.id": "sha256:12",
            "service.version": "1.4",
        }
        assert found.get(OTHER) == {}
        before = found.version
        labels = {"com.docker.compose.service": "db", "com.docker.compose.project": "shop"}
        answers.containers.append(container(OTHER, "shop-db-1", "sha256:99") | {"Labels": labels})
        answers.change()
        assert eventually(lambda: found.get(OTHER)) == {
            "service.name": "db",
            "service.namespace": "shop",
            "container.name": "shop-db-1",
            "container.image.id": "sha256:12",
        }
        assert found.version == before + 1
        answers.containers[0]["Names"] = ["/renamed"]
        answers.change()
        assert eventually(lambda: found.get(ID)["container.name"] == "renamed")
        del answers.containers[0]
        answers.change()
        assert eventually(lambda: not found.get(ID))


@pytest.mark.parametrize(
    ("body", "status", "want"),
    [
        (b"no", 200, "this is not the Docker Engine's API"),
        (b"[1]", 200, "this is not the Docker Engine's API"),
        (b'{"message":"x"}', 200, "this is not the Docker Engine's API"),
        (b"[" * 100000, 200, "this is not the Docker Engine's API"),
        (b"", 500, "HTTP status 500 to GET /events"),
    ],
)
def test_an_engine_that_is_none(
    tmp_path: Path, body: bytes, status: int, want: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "engine.sock")
    with serving(socketserver.ThreadingUnixStreamServer, path, lambda to: send(to, body, status)):
        found = runtime.directory(path)
        found.start()
    assert found.get(ID) == {}
    (said,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert want in said
    assert path in said


def test_no_engine_at_all_delays_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    runtime.directory(str(tmp_path / "none.sock")).start()
    assert time.monotonic() - began < 1
    assert "No such file or directory" in caplog.text


def test_an_answer_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(runtime, "ANSWER_MAX", 100)
    answers = Engine(container(ID, "web", "x" * 100))
    with engine(tmp_path, answers) as found:
        assert found.get(ID) == {}
    assert "an answer of more than" in caplog.text


def test_entries_and_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "ENTRIES_MAX", 3)
    found = Directory("x", lambda _: iter([{str(i): {"container.name": "n" * 1000 + "\ud800"} for i in range(5)}]))
    found.start()
    assert [len(found.get(str(i)).get("container.name", "")) for i in range(5)] == [255, 255, 255, 0, 0]


def pod(name: str = "web-5d4f8c7b9-x2x4z", **meta: Any) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "web-5d4f8c7b9"}
    of = {"name": name, "namespace": "shop", "uid": UID, "labels": {"pod-template-hash": "5d4f8c7b9"}}
    return {
        "metadata": of | {"ownerReferences": [owner]} | meta,
        "spec": {"nodeName": "node-1"},
        "status": {
            "initContainerStatuses": [{"name": "init", "containerID": "", "image": ""}],
            "containerStatuses": [
                {"name": "app", "containerID": f"containerd://{ID}", "image": "registry.example:5000/web:v2@sha256:1"}
            ],
        },
    }


POD = {
    "service.name": "web",
    "service.namespace": "shop",
    "k8s.namespace.name": "shop",
    "k8s.pod.name": "web-5d4f8c7b9-x2x4z",
    "k8s.node.name": "node-1",
    "k8s.replicaset.name": "web-5d4f8c7b9",
    "k8s.deployment.name": "web",
}


@contextmanager
def kubelet_of(tmp_path: Path, pods: Any, asked: list[str]) -> Iterator[Directory]:
    def answer(to: BaseHTTPRequestHandler) -> None:
        asked.append(f"{to.path} {to.headers.get('Authorization')}")
        send(to, json.dumps({"items": pods() if callable(pods) else pods}).encode())

    with serving(socketserver.ThreadingTCPServer, ("127.0.0.1", 0), answer) as server:
        (tmp_path / "token").write_text("abc\n")
        url = f"http://127.0.0.1:{server.server_address[1]}"
        found = kubelet.directory(kubelet.Kubelet(url, tmp_path / "token"))
        found.start()
        yield found


def test_pods(tmp_path: Path) -> None:
    asked: list[str] = []
    with kubelet_of(tmp_path, [pod()], asked) as found:
        assert found.get(UID) == POD
        assert found.get(ID) == {
            "k8s.container.name": "app",
            "container.image.name": "registry.example:5000/web",
            "service.version": "v2",
        }
    assert asked == ["/pods Bearer abc"]


def test_over_plain_http_no_token_is_sent_but_one_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(to: BaseHTTPRequestHandler) -> None:
        asked.append(str(to.headers.get("Authorization")))
        send(to, json.dumps({"items": [pod()]}).encode())

    monkeypatch.setattr(kubelet, "ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("abc\n")
    with serving(socketserver.ThreadingTCPServer, ("127.0.0.1", 0), answer) as server:
        found = kubelet.directory(kubelet.Kubelet(f"http://127.0.0.1:{server.server_address[1]}"))
        found.start()
        assert found.get(UID) == POD
    assert asked == ["None"]


@pytest.mark.parametrize(
    ("meta", "want"),
    [
        ({"ownerReferences": [{"kind": "StatefulSet", "name": "db"}]}, {"service.name": "db", "k8s.statefulset.name": "db"}),
        ({"ownerReferences": [{"kind": "Job", "name": "nightly-1"}]}, {"k8s.job.name": "nightly-1"}),
        ({"ownerReferences": [{"kind": "Node", "name": "node-1"}]}, {"service.name": "web-5d4f8c7b9-x2x4z"}),
        ({"ownerReferences": None, "labels": None}, {"service.name": "web-5d4f8c7b9-x2x4z"}),
        ({"labels": {}}, {"service.name": "web-5d4f8c7b9", "k8s.replicaset.name": "web-5d4f8c7b9"}),
        (
            {"annotations": {"resource.opentelemetry.io/service.name": "cart", "resource.opentelemetry.io/team": "blue"}},
            {"service.name": "cart", "team": "blue", "k8s.deployment.name": "web"},
        ),
    ],
)  # fmt: skip
def test_what_follows_from_a_pod(meta: dict[str, Any], want: dict[str, str]) -> None:
    found = kubelet._read([pod(**meta)])[UID]
    assert {key: found.get(key) for key in want} == want


def test_an_annotated_version_wins_over_the_image() -> None:
    found = kubelet._read([pod(annotations={"resource.opentelemetry.io/service.version": "9"})])
    assert found[ID]["service.version"] == "9"


def test_a_static_pod_is_found_by_its_hash() -> None:
    found = kubelet._read([pod(annotations={"kubernetes.io/config.hash": "abc"})])
    assert "abc" in found
    assert UID not in found


def test_a_pod_that_is_not_known_is_asked_for_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "PAUSE_S", 0.05)
    there: list[dict[str, Any]] = []
    asked: list[str] = []
    with kubelet_of(tmp_path, lambda: there, asked) as found:
        assert found.get(ID) == {}
        assert eventually(lambda: len(asked) > 1)  # for that, and no more
        time.sleep(0.2)
        assert found.get(ID) == {}
        assert len(asked) == 2
        there.append(pod())
        assert found.get(OTHER) == {}
        assert eventually(lambda: found.get(ID))


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(socketserver.ThreadingTCPServer, ("127.0.0.1", 0), lambda to: send(to, b"")) as server:
        found = kubelet.directory(kubelet.Kubelet(f"https://127.0.0.1:{server.server_address[1]}"))
        found.start()
    assert "SSL" in caplog.text
    assert found.get(UID) == {}


@pytest.mark.parametrize("items", [{"items": [{}]}, {"items": 1}, [], 1, {"items": [{"metadata": {"name": "x"}}]}])
def test_a_kubelet_that_is_none(items: Any, caplog: pytest.LogCaptureFixture) -> None:
    with serving(
        socketserver.ThreadingTCPServer, ("127.0.0.1", 0), lambda to: send(to, json.dumps(items).encode())
    ) as s:
        kubelet.directory(kubelet.Kubelet(f"http://me:hunter2@127.0.0.1:{s.server_address[1]}")).start()
    assert "this is no list of pods" in caplog.text
    assert "hunter2" not in caplog.text


def of(attributes: dict[str, dict[str, str]]) -> Directories:
    directory = Directory("test", lambda _: iter([attributes]))
    directory.start()
    return Directories([directory])


def test_an_identity_has_the_names() -> None:
    names = of({UID: POD, ID: {"k8s.container.name": "app", "service.version": "v2"}})
    cgroup = f"0::/kubepods/burstable/pod{UID}/{ID}"
    found = identity_of(Process(b"python\0", b"", cgroup, "/bin/python"), names)
    assert found.service_name == "web"
    assert dict(found.attributes) == {
        **{key: value for key, value in POD.items() if key != "service.name"},
        "k8s.container.name": "app",
        "service.version": "v2",
        "k8s.pod.uid": UID,
        "container.id": ID,
    }


def test_what_a_process_says_of_its_service_wins_and_of_its_place_does_not() -> None:
    names = of({UID: POD})
    said = b"OTEL_SERVICE_NAME=own\0OTEL_RESOURCE_ATTRIBUTES=service.namespace=mine,k8s.pod.name=other\0"
    found = identity_of(Process(b"x\0", said, f"0::/kubepods/pod{UID}/{ID}", "/bin/x"), names)
    attributes = dict(found.attributes)
    assert (found.service_name, attributes["service.namespace"], attributes["k8s.pod.name"]) == (
        "own",
        "mine",
        POD["k8s.pod.name"],
    )


def test_a_process_is_named_anew_when_its_container_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "RECHECK_S", 0.0)
    root = tmp_path / "7"
    root.mkdir()
    for name, text in (("cmdline", "app\0"), ("environ", ""), ("cgroup", f"0::/docker/{ID}"), ("comm", "app\n")):
        (root / name).write_text(text)
    (root / "exe").symlink_to("/bin/app")
    told: SimpleQueue[dict[str, dict[str, str]]] = SimpleQueue()
    directory = Directory("test", lambda _: iter(told.get, None))
    told.put({})
    names = Directories([directory])
    names.start()
    who = identify.Identifier(tmp_path, directories=names)
    assert "container.name" not in dict(who(row(**ROW)).attributes)
    told.put({ID: {"container.name": "web"}})
    assert eventually(lambda: dict(who(row(**ROW)).attributes).get("container.name")) == "web"


@pytest.mark.parametrize(
    ("reference", "want"),
    [
        ("nginx", {"container.image.name": "nginx"}),
        ("nginx:1.25", {"container.image.name": "nginx", "service.version": "1.25"}),
        ("nginx:latest", {"container.image.name": "nginx", "service.version": ""}),
        ("host:5000/a/b", {"container.image.name": "host:5000/a/b"}),
        ("host:5000/a/b:2@sha256:12", {"container.image.name": "host:5000/a/b", "service.version": "2"}),
        ("sha256:1234", {}),
        ("", {}),
    ],
)
def test_images(reference: str, want: dict[str, str]) -> None:
    assert images.attributes(reference) == want


def test_settings_choose(tmp_path: Path) -> None:
    assert chosen(Settings()).version == 0
    with pytest.raises(UsageError, match=r"kubelet_token: .*/none: No such file"):
        chosen(Settings(kubelet="http://127.0.0.1:1", kubelet_token=str(tmp_path / "none")))
