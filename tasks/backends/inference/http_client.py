"""Send many requests to a few servers, and yield their responses in the order of the requests.

A request goes to the server with the most free capacity. The number of requests in flight at a server is adapted to its
responses as in TCP congestion control: it grows while the server keeps up, is halved when the server is busy or slow,
and is 1 when the server is unreachable. A request whose server was unreachable or busy, or whose response cannot be
used, is sent again after a pause with jitter. A refused request ends the run.
"""

import asyncio
import contextlib
import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import aiohttp
import httpx

from heirloom.errors import HeirloomError
from tasks.backends.inference.concurrency import ConcurrencyLimit, backoff_seconds
from tasks.backends.inference.http_protocol import ClientConfig, TransientServerError, parse_response

_TRIES = 6
"""Number of unusable responses to one request that end the run."""

T = TypeVar("T")


def stream_responses(
    servers: Sequence[str],
    path: str,
    requests: Sequence[Mapping[str, Any]],
    client_config: ClientConfig,
    read: Callable[[Any], T],
) -> Iterator[list[T]]:
    """Yield the parsed responses in the order of `requests`, in lists as they become complete.

    Args:
        servers: Base URLs.
        path: Path of the endpoint, which is appended to the base URL.
        requests: JSON bodies.
        client_config: Key, concurrency limits and timeouts.
        read: Converts the JSON of a response. If it raises, the response cannot be used, and the request is sent again.

    Raises:
        HeirloomError: a server refused a request, all responses to one request are unusable, or no server responded
            for `server_unavailable_timeout_s`.
    """
    scheduler = _RequestScheduler(
        [ConcurrencyLimit(address, float(client_config.initial_concurrency)) for address in servers],
        path,
        requests,
        client_config,
        read,
    )
    thread = threading.Thread(target=scheduler.run, name="http-requests", daemon=True)
    thread.start()
    finished: dict[int, T] = {}
    next_number = 0
    try:
        while next_number < len(requests):
            results = [scheduler.results.get()]
            while not scheduler.results.empty():
                results.append(scheduler.results.get())
            for number, result in results:
                if isinstance(result, Exception):
                    raise result
                finished[number] = result
            ready = []
            while next_number in finished:
                ready.append(finished.pop(next_number))
                next_number += 1
            if ready:
                yield ready
    finally:
        scheduler.cancel()
        thread.join()


@dataclass
class _RequestScheduler(Generic[T]):
    """Sends requests to servers. `run` is called in a separate thread and has its own event loop."""

    servers: list[ConcurrencyLimit]
    path: str
    requests: Sequence[Mapping[str, Any]]
    client_config: ClientConfig
    read: Callable[[Any], T]
    results: "SimpleQueue[tuple[int, T | Exception]]" = field(default_factory=SimpleQueue)
    """Pairs of a request's number and its result, or of -1 and the exception that ended `run`."""

    def run(self) -> None:
        """Send all requests and put their results into `results`."""
        try:
            asyncio.run(self._run_cancellable())
        except* asyncio.CancelledError:
            pass
        except* Exception as group:  # noqa: BLE001  (every exception is raised again in the caller's thread)
            self.results.put((-1, _first_exception(group)))

    def cancel(self) -> None:
        """End `run` from another thread, also if its loop has not started yet or has already ended."""
        self._cancelled = True
        with contextlib.suppress(AttributeError, RuntimeError):
            self._loop.call_soon_threadsafe(self._main.cancel)

    def __post_init__(self) -> None:
        self._cancelled = False
        # A sorted list is a heap: requests start in their order, and a failed one is sent before those after it.
        self._waiting = list(range(len(self.requests)))
        self._num_unanswered = len(self.requests)
        self._unusable: Counter[int] = Counter()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._failing_since: float | None = None

    async def _run_cancellable(self) -> None:
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._main = asyncio.ensure_future(self._dispatch())
        # `cancel` may have been called before there was a task that it could cancel.
        if self._cancelled:
            self._main.cancel()
        await self._main

    async def _dispatch(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for server in self.servers:
                session = self.client_config.session(server.address)
                self._sessions[server.address] = await stack.enter_async_context(session)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            while self._num_unanswered:
                while self._waiting:
                    free_server = self._least_loaded()
                    if free_server is None:
                        break
                    free_server.in_flight += 1
                    group.create_task(self._attempt(free_server, heapq.heappop(self._waiting)))
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._shortest_backoff()):
                        await self._changed.wait()

    def _least_loaded(self) -> ConcurrencyLimit | None:
        """Return the server with the most free capacity; None if all are at their limit or in backoff."""
        now = time.monotonic()
        free = [server for server in self.servers if server.in_flight < int(server.limit)]
        ready = [server for server in free if server.backoff_until <= now]
        return min(ready, key=lambda server: server.in_flight / server.limit, default=None)

    def _shortest_backoff(self) -> float | None:
        """Return the seconds until a server's backoff ends. None if no request waits or no server is in backoff."""
        now = time.monotonic()
        backoffs = [server.backoff_until - now for server in self.servers if server.backoff_until > now]
        return min(backoffs, default=None) if self._waiting else None

    async def _attempt(self, server: ConcurrencyLimit, number: int) -> None:
        started = time.monotonic()
        try:
            result = self._parse(await self._post(server, number))
        except TransientServerError as error:
            self._handle_failure(server, number, started, error)
        else:
            self._failing_since = None
            self._num_unanswered -= 1
            slow = time.monotonic() - started > self.client_config.request_timeout_s / 2
            server.succeeded(slow, started, self.client_config.max_concurrency)
            self.results.put((number, result))
        finally:
            server.in_flight -= 1
            self._changed.set()

    async def _post(self, server: ConcurrencyLimit, number: int) -> Any:  # noqa: ANN401  (JSON)
        url = server.address + self.path
        try:
            async with (
                asyncio.timeout(self.client_config.request_timeout_s),
                self._sessions[server.address].post(url, json=self.requests[number]) as response,
            ):
                content = await response.read()
        except TimeoutError as error:
            raise TransientServerError(
                f"no response within {self.client_config.request_timeout_s:g} s", unreachable=True
            ) from error
        except aiohttp.ClientError as error:
            # A broken connection can be due to load; a connection that cannot be opened means that no server is there.
            unreachable = isinstance(error, aiohttp.ClientConnectorError)
            raise TransientServerError(
                f"{type(error).__name__} {error}".strip(), busy=not unreachable, unreachable=unreachable
            ) from error
        request = httpx.Request("POST", url)
        return parse_response(
            httpx.Response(response.status, headers=response.headers, content=content, request=request),
            self.client_config,
        )

    def _parse(self, response: Any) -> T:  # noqa: ANN401  (JSON)
        try:
            return self.read(response)
        except Exception as error:
            raise TransientServerError(f"unusable response: {type(error).__name__} {error}") from error

    def _handle_failure(
        self, server: ConcurrencyLimit, number: int, started: float, error: TransientServerError
    ) -> None:
        """Schedule another attempt.

        Raises:
            HeirloomError: further attempts are pointless.
        """
        now = time.monotonic()
        server.failed(error, started)
        self._failing_since = self._failing_since or now
        if exit_reason := self.client_config.exit_reason():
            raise HeirloomError(exit_reason)
        if now - self._failing_since > self.client_config.server_unavailable_timeout_s:
            seconds = self.client_config.server_unavailable_timeout_s
            raise HeirloomError(
                f"No server responded for {seconds:g} s: {self._error_summary()}. Check the servers, or raise "
                "`resources.server_unavailable_timeout_s`."
            )
        self._unusable[number] += not (error.unreachable or error.busy)
        if self._unusable[number] >= _TRIES:
            raise HeirloomError(
                f"Request {number} got {_TRIES} unusable responses: {self._error_summary()}. "
                "Check the logs of the servers."
            )
        self._loop.call_later(backoff_seconds(min(self._unusable[number], 3)), self._requeue, number)

    def _requeue(self, number: int) -> None:
        heapq.heappush(self._waiting, number)
        self._changed.set()

    def _error_summary(self) -> str:
        """Return the three most frequent errors of each server."""
        summaries = []
        for server in self.servers:
            errors = ", ".join(f"{message} ({count} times)" for message, count in server.errors.most_common(3))
            summaries.append(f"{server.address}: {errors or 'no errors'}")
        return "; ".join(summaries)


def _first_exception(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first exception of a group, at any depth."""
    exception: BaseException = group
    while isinstance(exception, BaseExceptionGroup):
        exception = exception.exceptions[0]
    return exception if isinstance(exception, Exception) else RuntimeError(str(exception))
