"""How a server is asked, and what its answer means: an answer, trouble that may pass, or a refusal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import orjson

from heirloom.errors import HeirloomError

_BUSY = (408, 425, 429, 503)
_HERE = {"127.0.0.1": "127.0.0.1", "localhost": "localhost", "::1": "[::1]"}
"""This machine's names, and how each is written in an address."""


@dataclass(frozen=True)
class ClientConfig:
    """How servers are asked."""

    key: str
    """Sent as a bearer token; appears in no message."""
    initial_concurrency: int
    """Requests in flight at each server at first."""
    max_concurrency: int
    request_timeout_s: float
    server_unavailable_timeout_s: float
    exit_reason: Callable[[], str] = lambda: ""
    """Says why no server will ever answer again, if that is so; asked after each trouble."""

    def httpx_options(self) -> dict[str, Any]:
        """What an httpx client for single questions is opened with; a server on this machine is never asked through a proxy."""
        return {
            "headers": self._headers(),
            "timeout": None,
            "mounts": {f"all://{host}": None for host in _HERE.values()},
        }

    def session(self, address: str) -> aiohttp.ClientSession:
        """Room for any number of requests to one server at a time; httpx takes 40 times the CPU with 256 of them."""
        # Servers close what was idle for five seconds; a request on its way at that moment would be lost.
        wide = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        remote = httpx.URL(address).host not in _HERE
        return aiohttp.ClientSession(
            connector=wide,
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=remote,
        )

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def redact_key(self, words: str) -> str:
        """The words of a server, cut short and without the key, which some repeat."""
        shown = words.replace(self.key, "***") if self.key else words
        return " ".join(shown.split())[:300]


class TransientServerError(Exception):
    """A server gave no answer that can be used, and may give one later."""

    def __init__(self, words: str, *, busy: bool = False, unreachable: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(words)
        self.busy, self.unreachable, self.retry_after = busy, unreachable, retry_after


def parse_response(response: httpx.Response, client_config: ClientConfig) -> Any:  # noqa: ANN401  (JSON)
    """The JSON of an answer.

    Raises:
        TransientServerError: the server is busy or broken, and may not be later.
        HeirloomError: it refused.
    """
    if response.is_success:
        try:
            return _read(response)
        except ValueError as error:
            raise TransientServerError(f"{response.status_code} with a body that is not JSON") from error
    words = f"{response.status_code} {client_config.redact_key(_message(response))}".strip()
    if response.status_code in _BUSY or response.status_code >= 500:
        retry_after = response.headers.get("Retry-After", "")
        busy = response.status_code in _BUSY
        raise TransientServerError(words, busy=busy, retry_after=float(retry_after) if retry_after.isdigit() else 0.0)
    raise HeirloomError(f"{response.request.url} refused: {words}")


def _read(response: httpx.Response) -> Any:  # noqa: ANN401  (JSON)
    try:
        return orjson.loads(response.content)
    except ValueError:
        # Some say NaN or Infinity, which is no JSON, and which Python reads.
        return response.json()


def _message(response: httpx.Response) -> str:
    try:
        said = response.json()
        return str(said["error"]["message"] if isinstance(said["error"], dict) else said["error"])
    except (ValueError, KeyError, TypeError):
        return response.text
