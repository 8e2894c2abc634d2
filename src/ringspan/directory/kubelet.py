"""Names of pods and their containers, from the local kubelet (GET /pods, a PodList).

How attributes follow from a pod: semconv, non-normative/k8s-attributes; well-known labels are not used.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ringspan import redact
from ringspan.directory import images
from ringspan.directory.keep import Directory, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_S, PAUSE_S = 10.0, 1.0
ANSWER_S, ANSWER_MAX, TOKEN_MAX = 5.0, 64 << 20, 1 << 16
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
STATIC = "kubernetes.io/config.hash"  # what a static pod's control group is called by
PREFIX = "resource.opentelemetry.io/"
OWNERS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job")  # the first names the service
ANNOTATED_MAX, KEY_MAX = 16, 100


class Kubelet(NamedTuple):
    """Where to ask, and with what: a bearer token and authorities of certificates, each a file or none."""

    url: str
    token: Path | None = None
    authorities: Path | None = None

    @property
    def shown(self) -> str:
        """Return the URL for messages."""
        return redact.setting(self.url)


def _file(given: Path | None, name: str) -> Path | None:
    """Return a file that was named, else the service account's, if there is one."""
    return given or (ACCOUNT / name if (ACCOUNT / name).exists() else None)


def _connection(to: Kubelet) -> http.client.HTTPConnection:
    url = urlsplit(to.url)
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=ANSWER_S)
    context = ssl.create_default_context(cafile=_file(to.authorities, "ca.crt"))
    return http.client.HTTPSConnection(url.hostname or "", url.port, timeout=ANSWER_S, context=context)


def _pods(to: Kubelet) -> list[dict[str, Any]]:
    headers = {"Accept": "application/json"}
    # Anew each time: tokens of service accounts are short-lived; over plain HTTP only one that was named is sent.
    if token := to.token if urlsplit(to.url).scheme == "http" else _file(to.token, "token"):
        with token.open(encoding="ascii") as file:
            headers["Authorization"] = f"Bearer {file.read(TOKEN_MAX).strip()}"
    connection = _connection(to)
    try:
        connection.request("GET", f"{urlsplit(to.url).path.rstrip('/')}/pods", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise Unavailable(f"HTTP status {answer.status} to GET /pods")
        text = answer.read(ANSWER_MAX + 1)
    finally:
        connection.close()
    if len(text) > ANSWER_MAX:
        raise Unavailable(f"an answer of more than {ANSWER_MAX >> 20} MB")
    found: list[dict[str, Any]] = json.loads(text)["items"] or []
    return found


def _owner(pod: dict[str, Any]) -> dict[str, str]:
    """Return who has made a pod; a ReplicaSet of a Deployment is called like it, with the hash of the template."""
    meta = pod["metadata"]
    found = {}
    for owner in meta.get("ownerReferences") or ():
        kind, name = str(owner["kind"]), str(owner["name"])
        if kind in OWNERS:
            found[kind] = name
        suffix = f"-{(meta.get('labels') or {}).get('pod-template-hash')}"
        if kind == "ReplicaSet" and name.endswith(suffix):
            found["Deployment"] = name.removesuffix(suffix)
    return found


def _of_pod(pod: dict[str, Any]) -> dict[str, str]:
    meta = pod["metadata"]
    annotations = meta.get("annotations") or {}
    given = {key.removeprefix(PREFIX): str(value) for key, value in annotations.items() if key.startswith(PREFIX)}
    given = {key: value for key, value in list(given.items())[:ANNOTATED_MAX] if 0 < len(key) <= KEY_MAX}
    owner = _owner(pod)
    name = next((owner[kind] for kind in OWNERS if kind in owner), meta["name"])
    return {
        "service.name": name,
        "service.namespace": meta["namespace"],
        "k8s.namespace.name": meta["namespace"],
        "k8s.pod.name": meta["name"],
        "k8s.node.name": (pod.get("spec") or {}).get("nodeName") or "",
        **{f"k8s.{kind.lower()}.name": one for kind, one in owner.items()},
        **given,
    }


def _containers(pod: dict[str, Any], version: str | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield id and attributes of the containers of a pod that have begun."""
    status = pod.get("status") or {}
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        found = {"k8s.container.name": one["name"], **images.attributes(one.get("image") or "")}
        yield (
            (one.get("containerID") or "").rpartition("//")[2],
            found | ({"service.version": version} if version else {}),
        )


def _read(pods: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return attributes by uid of pods and by id of containers; a container's stand beside its pod's."""
    found: dict[str, dict[str, str]] = {}
    for pod in pods:
        of_pod, meta = _of_pod(pod), pod["metadata"]
        found |= {(meta.get("annotations") or {}).get(STATIC) or meta["uid"]: of_pod}
        found |= _containers(pod, of_pod.get("service.version"))
    return found


def _find(to: Kubelet, wait: Callable[[float], object]) -> Iterator[dict[str, dict[str, str]]]:
    """Ask, again and again; raises Unavailable."""
    while True:
        try:
            yield _read(_pods(to))
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{to.shown}: {getattr(error, 'strerror', None) or error!r}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Unavailable(f"{to.shown}: this is no list of pods") from error
        time.sleep(PAUSE_S)
        wait(EVERY_S)


def directory(to: Kubelet) -> Directory:
    """Return the names of the pods that a kubelet runs."""
    return Directory(f"kubelet {to.shown}", lambda wait: _find(to, wait))
