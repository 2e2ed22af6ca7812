"""HTTP client settings, and classification of responses: success, transient error (retried), or refusal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import orjson

from heirloom.errors import HeirloomError

_BUSY = (408, 425, 429, 503)
_LOCAL_HOSTS = {"127.0.0.1": "127.0.0.1", "localhost": "localhost", "::1": "[::1]"}
"""Names of this machine, and the form of each in a URL."""


@dataclass(frozen=True)
class ClientConfig:
    """Key, concurrency limits and timeouts of requests to servers."""

    key: str
    """Sent as a bearer token; appears in no message."""
    initial_concurrency: int
    """Requests in flight at each server at the start."""
    max_concurrency: int
    """Maximum number of requests in flight at each server."""
    request_timeout_s: float
    server_unavailable_timeout_s: float
    """Seconds without any usable response after which the run ends."""
    exit_reason: Callable[[], str] = lambda: ""
    """Returns why no server can respond any more, or an empty string. Called after each failed request."""

    def httpx_options(self) -> dict[str, Any]:
        """Return the options of an httpx client for single requests. Servers on this machine need no proxy."""
        return {
            "headers": self._headers(),
            "timeout": None,
            "mounts": {f"all://{host}": None for host in _LOCAL_HOSTS.values()},
        }

    def session(self, address: str) -> aiohttp.ClientSession:
        """Open a session for any number of concurrent requests to one server.

        It is aiohttp's, since httpx needs 40 times the CPU time with 256 concurrent requests.
        """
        # Servers close connections that are idle for five seconds; a request sent at that moment would be lost.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        remote = httpx.URL(address).host not in _LOCAL_HOSTS
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=remote,
        )

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def redact_key(self, message: str) -> str:
        """Return a server's message as one line of at most 300 characters, without the key, which some repeat."""
        redacted = message.replace(self.key, "***") if self.key else message
        return " ".join(redacted.split())[:300]


class TransientServerError(Exception):
    """A server gave no usable response, and may give one later. `retry_after` is in seconds."""

    def __init__(
        self, message: str, *, busy: bool = False, unreachable: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.busy, self.unreachable, self.retry_after = busy, unreachable, retry_after


def parse_response(response: httpx.Response, client_config: ClientConfig) -> Any:  # noqa: ANN401  (JSON)
    """Return the JSON of a response.

    Raises:
        TransientServerError: the server is busy, has failed, or sent no JSON.
        HeirloomError: the server refused the request.
    """
    if response.is_success:
        try:
            return _parse_json(response)
        except ValueError as error:
            raise TransientServerError(f"{response.status_code} with a body that is not JSON") from error
    message = f"{response.status_code} {client_config.redact_key(_error_message(response))}".strip()
    if response.status_code in _BUSY or response.status_code >= 500:
        retry_after = response.headers.get("Retry-After", "")
        busy = response.status_code in _BUSY
        seconds = float(retry_after) if retry_after.isdigit() else 0.0
        raise TransientServerError(message, busy=busy, retry_after=seconds)
    raise HeirloomError(f"{response.request.url} refused the request: {message}")


def _parse_json(response: httpx.Response) -> Any:  # noqa: ANN401  (JSON)
    try:
        return orjson.loads(response.content)
    except ValueError:
        # Some servers send NaN or Infinity, which are not JSON, but which Python's parser accepts.
        return response.json()


def _error_message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return response.text
