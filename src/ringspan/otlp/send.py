"""One request to an OTLP endpoint, over gRPC or HTTP, and what came of it (OTLP specification 1.x)."""

from __future__ import annotations

import email.utils
import gzip
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ringspan.otlp.endpoint import USER_AGENT, Endpoint, Signal, read_file

if TYPE_CHECKING:
    import grpc
    import requests
    from requests.auth import AuthBase

RETRYABLE_STATUS = {429, 502, 503, 504}
RETRYABLE_CODES = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3000),
    ("grpc.primary_user_agent", USER_AGENT),
]
REASON_MAX = 80
TLS_ERROR, TLS_WORDS = "TLS error", ("handshake", "CERTIFICATE_VERIFY_FAILED", "Hostname Verification", "Peer name")
ANSWER_MAX, PIECE = 1 << 20, 1024
HEADERS = {"Content-Type": "application/x-protobuf", "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


class Service(NamedTuple):
    """What takes a signal over gRPC, what it answers, and the field that counts what was rejected of a request."""

    method: str
    response: Any
    rejected: str


SERVICES: dict[Signal, Service] = {
    "traces": Service(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export", ExportTraceServiceResponse, "rejected_spans"
    ),
    "metrics": Service(
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
}


@dataclass(frozen=True)
class Answer:
    """What became of a request: taken (but for `rejected` spans or points), to be sent again, or refused for good."""

    taken: bool
    rejected: int = 0
    again: bool = False
    wait_s: float | None = None  # how long the receiver wants to be left alone
    reason: str = ""


class Sender(Protocol):
    """A way to send."""

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Send one request of the signal; raises nothing."""

    def cancel(self) -> None:
        """End the request that is under way, if that is possible."""


def _printable(text: object) -> str:
    """A receiver's words, fit for a terminal and short."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:REASON_MAX]


class Grpc:
    """OTLP over gRPC."""

    def __init__(self, endpoint: Endpoint) -> None:
        import grpc  # noqa: PLC0415

        compression = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
        options: dict[str, Any] = {
            "options": CHANNEL_OPTIONS,
            "compression": compression.get(endpoint.compression, grpc.Compression.NoCompression),
        }
        target = urlsplit(endpoint.url).netloc or endpoint.url
        if endpoint.secure:
            credentials = grpc.ssl_channel_credentials(
                read_file(endpoint.certificate), read_file(endpoint.client_key), read_file(endpoint.client_certificate)
            )
            channel = grpc.secure_channel(target, credentials, **options)
        else:
            channel = grpc.insecure_channel(target, **options)
        self._error: type[grpc.RpcError] = grpc.RpcError
        self._headers = tuple((key.lower(), value) for key, value in endpoint.headers.items())
        self._service = SERVICES[endpoint.signal]
        self._call = channel.unary_unary(self._service.method, None, self._service.response.FromString)
        self._under_way: grpc.Future[Any] | None = None

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Send one request."""
        try:
            self._under_way = self._call.future(body, timeout=timeout_s, metadata=self._headers)
            return _taken(self._under_way.result(), self._service)
        except self._error as error:
            return _refused(error)
        except Exception as error:  # noqa: BLE001 - cancelled, or the channel is closed
            return Answer(taken=False, reason=type(error).__name__)

    def cancel(self) -> None:
        """End the call that is under way."""
        if self._under_way:
            self._under_way.cancel()


def _taken(response: Any, service: Service) -> Answer:
    partial = response.partial_success
    rejected = max(0, getattr(partial, service.rejected))
    return Answer(taken=True, rejected=rejected, reason=_printable(partial.error_message))


def _refused(error: Any) -> Answer:
    code = error.code().name
    wait = _retry_delay(error.trailing_metadata() or ())
    again = code in RETRYABLE_CODES or (code == "RESOURCE_EXHAUSTED" and wait is not None)
    failed_tls = code == "UNAVAILABLE" and any(word in str(error.details()) for word in TLS_WORDS)
    reason = TLS_ERROR if failed_tls else code.lower().replace("_", " ")
    return Answer(taken=False, again=again, wait_s=wait, reason=reason)


def _retry_delay(metadata: Any) -> float | None:
    """Read a RetryInfo out of a call's trailing metadata (google.rpc.Status)."""
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    raw = dict(metadata)
    info = error_details_pb2.RetryInfo()
    try:
        if "google.rpc.retryinfo-bin" in raw:
            info.ParseFromString(raw["google.rpc.retryinfo-bin"])
        else:
            status = status_pb2.Status.FromString(raw.get("grpc-status-details-bin", b""))
            if not any(detail.Unpack(info) for detail in status.details):
                return None
    except Exception:  # noqa: BLE001 - what cannot be read says nothing
        return None
    return max(0.0, float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9)


class Http:
    """OTLP over HTTP, as binary protobuf."""

    def __init__(self, endpoint: Endpoint) -> None:
        import requests  # noqa: PLC0415
        import urllib3  # noqa: PLC0415

        from ringspan.otlp.bounded import Adapter  # noqa: PLC0415

        self._endpoint = endpoint
        self._service = SERVICES[endpoint.signal]
        self._errors = (requests.RequestException, urllib3.exceptions.HTTPError)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, Adapter())
        self._session.auth = _credentials(endpoint.url)
        self._session.headers.update(HEADERS)
        self._session.headers.update(endpoint.headers)
        if endpoint.compression != "none":
            self._session.headers["Content-Encoding"] = endpoint.compression
        # Given with each request: what a session is given gives way to REQUESTS_CA_BUNDLE.
        self._verify = endpoint.certificate or True
        if endpoint.client_certificate:
            key = endpoint.client_key
            self._session.cert = (endpoint.client_certificate, key) if key else endpoint.client_certificate

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Send one request."""
        packed = _compressed(body, self._endpoint.compression)
        try:
            response = self._session.post(
                self._endpoint.url, packed, timeout=timeout_s, allow_redirects=False, stream=True, verify=self._verify
            )
            content = _content(response)
        except self._errors as error:
            return Answer(taken=False, again=True, reason=_what(error))
        if response.ok and response.status_code < 300:
            return self._read(content)
        again = response.status_code in RETRYABLE_STATUS
        return Answer(taken=False, again=again, wait_s=_retry_after(response), reason=f"HTTP {response.status_code}")

    def cancel(self) -> None:
        """Do nothing: a request cannot be ended from another thread."""

    def _read(self, content: bytes) -> Answer:
        try:
            return _taken(self._service.response.FromString(content), self._service)
        except Exception:  # noqa: BLE001 - some receivers answer with JSON or nothing
            return Answer(taken=True)


def _credentials(url: str) -> AuthBase:
    """Return what adds a URL's own user and password, if it has them, and nobody else's.

    Given nothing, requests looks into ~/.netrc, and sends what is there in place of the header that was asked for.
    """
    from requests.auth import AuthBase, HTTPBasicAuth  # noqa: PLC0415
    from requests.utils import get_auth_from_url  # noqa: PLC0415

    class Nothing(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            return request

    user, password = get_auth_from_url(url)
    return HTTPBasicAuth(user, password) if user or password else Nothing()


def _content(response: requests.Response) -> bytes:
    """Read an answer's body, or enough of it, as it came: unpacked it has no bound, nor have some reads of urllib3."""
    content = b""
    with response:
        while len(content) < ANSWER_MAX and (part := response.raw.read(PIECE, decode_content=False)):
            content += part
    return content


def _compressed(body: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(body)
    return zlib.compress(body) if how == "deflate" else body


def _what(error: BaseException) -> str:
    """Name an error of the connection in few words that are always the same."""
    names = {
        "ConnectTimeout": "timeout",
        "ReadTimeout": "timeout",
        "ReadTimeoutError": "timeout",
        "SSLError": TLS_ERROR,
    }
    return names.get(type(error).__name__, "unreachable")


def _retry_after(response: requests.Response) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110 section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):
        return None


def sender(endpoint: Endpoint) -> Sender:
    """Return the way to send to an endpoint."""
    return Grpc(endpoint) if endpoint.protocol == "grpc" else Http(endpoint)
