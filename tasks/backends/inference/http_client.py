"""Many requests to a few servers: each answered once, in the order asked, whatever the servers do meanwhile.

A request goes to the server with the most room. How many a server gets at a time follows its answers as TCP
follows a network: more while it keeps up, half when it is busy or slow, one when it is unreachable. A request that
found nobody, a busy server or a broken answer is asked again after a pause with jitter; a refusal ends the run.
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
"""How often one request may be answered badly, while others are answered well."""

T = TypeVar("T")


def stream_responses(
    servers: Sequence[str],
    path: str,
    requests: Sequence[Mapping[str, Any]],
    client_config: ClientConfig,
    read: Callable[[Any], T],
) -> Iterator[list[T]]:
    """Yield what `read` makes of each answer, in the order of `requests`, in lists as they become complete.

    `read` gets parsed JSON; whatever it raises means that the answer cannot be used and the request is asked again.

    Raises:
        HeirloomError: a server refused a request, one request is always answered badly, or nobody answered for too long.
    """
    scheduler = _RequestScheduler(
        [ConcurrencyLimit(address, float(client_config.initial_concurrency)) for address in servers],
        path,
        requests,
        client_config,
        read,
    )
    thread = threading.Thread(target=scheduler.run, name="asking", daemon=True)
    thread.start()
    finished: dict[int, T] = {}
    due = 0
    try:
        while due < len(requests):
            found = [scheduler.results.get()]
            while not scheduler.results.empty():
                found.append(scheduler.results.get())
            for number, answer in found:
                if isinstance(answer, Exception):
                    raise answer
                finished[number] = answer
            ready = []
            while due in finished:
                ready.append(finished.pop(due))
                due += 1
            if ready:
                yield ready
    finally:
        scheduler.cancel()
        thread.join()


@dataclass
class _RequestScheduler(Generic[T]):
    """Hands out requests to servers, in a thread and an event loop of its own."""

    servers: list[ConcurrencyLimit]
    path: str
    requests: Sequence[Mapping[str, Any]]
    client_config: ClientConfig
    read: Callable[[Any], T]
    results: "SimpleQueue[tuple[int, T | Exception]]" = field(default_factory=SimpleQueue)

    def run(self) -> None:
        try:
            asyncio.run(self._hand_out())
        except* asyncio.CancelledError:
            pass
        except* Exception as group:  # noqa: BLE001  (whatever it is, the caller must hear of it)
            self.results.put((-1, _first(group)))

    def cancel(self) -> None:
        self._left = True
        with contextlib.suppress(AttributeError, RuntimeError):
            self._loop.call_soon_threadsafe(self._main.cancel)

    def __post_init__(self) -> None:
        self._left = False
        # A sorted list is a heap: requests begin in their order, and one that failed comes before those after it.
        self._waiting = list(range(len(self.requests)))
        self._unanswered = len(self.requests)
        self._bad: Counter[int] = Counter()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._trouble_since: float | None = None

    async def _hand_out(self) -> None:
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._main = asyncio.ensure_future(self._serve())
        if self._left:
            self._main.cancel()
        await self._main

    async def _serve(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for one in self.servers:
                self._sessions[one.address] = await stack.enter_async_context(self.client_config.session(one.address))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            while self._unanswered:
                while self._waiting and (server := self._with_room()):
                    server.in_flight += 1
                    group.create_task(self._attempt(server, heapq.heappop(self._waiting)))
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._shortest_rest()):
                        await self._changed.wait()

    def _with_room(self) -> ConcurrencyLimit | None:
        now = time.monotonic()
        able = [one for one in self.servers if one.in_flight < int(one.limit) and one.backoff_until <= now]
        return min(able, key=lambda one: one.in_flight / one.limit, default=None)

    def _shortest_rest(self) -> float | None:
        now = time.monotonic()
        rests = [one.backoff_until - now for one in self.servers if one.backoff_until > now]
        return min(rests, default=None) if self._waiting else None

    async def _attempt(self, server: ConcurrencyLimit, number: int) -> None:
        began = time.monotonic()
        try:
            answer = self._understood(await self._asked(server, number))
        except TransientServerError as trouble:
            self._failed(server, number, began, trouble)
        else:
            self._trouble_since = None
            self._unanswered -= 1
            slow = time.monotonic() - began > self.client_config.request_timeout_s / 2
            server.succeeded(slow, began, self.client_config.max_concurrency)
            self.results.put((number, answer))
        finally:
            server.in_flight -= 1
            self._changed.set()

    async def _asked(self, server: ConcurrencyLimit, number: int) -> Any:  # noqa: ANN401  (JSON)
        url = server.address + self.path
        try:
            async with (
                asyncio.timeout(self.client_config.request_timeout_s),
                self._sessions[server.address].post(url, json=self.requests[number]) as response,
            ):
                content = await response.read()
        except TimeoutError as error:
            raise TransientServerError(
                f"no answer in {self.client_config.request_timeout_s:g} s", unreachable=True
            ) from error
        except aiohttp.ClientError as error:
            # One connection that broke says little about a server; one that cannot be made says that nobody is there.
            nobody = isinstance(error, aiohttp.ClientConnectorError)
            raise TransientServerError(
                f"{type(error).__name__} {error}".strip(), busy=not nobody, unreachable=nobody
            ) from error
        request = httpx.Request("POST", url)
        return parse_response(
            httpx.Response(response.status, headers=response.headers, content=content, request=request),
            self.client_config,
        )

    def _understood(self, answer: Any) -> T:  # noqa: ANN401  (JSON)
        try:
            return self.read(answer)
        except Exception as error:
            raise TransientServerError(f"an answer that cannot be used: {type(error).__name__} {error}") from error

    def _failed(self, server: ConcurrencyLimit, number: int, began: float, trouble: TransientServerError) -> None:
        now = time.monotonic()
        server.failed(trouble, began)
        self._trouble_since = self._trouble_since or now
        if ended := self.client_config.exit_reason():
            raise HeirloomError(ended)
        if now - self._trouble_since > self.client_config.server_unavailable_timeout_s:
            raise HeirloomError(
                f"nobody answered for {self.client_config.server_unavailable_timeout_s:g} s: {self._story()}"
            )
        self._bad[number] += not (trouble.unreachable or trouble.busy)
        if self._bad[number] >= _TRIES:
            raise HeirloomError(f"request {number} was answered badly {_TRIES} times: {self._story()}")
        self._loop.call_later(backoff_seconds(min(self._bad[number], 3)), self._again, number)

    def _again(self, number: int) -> None:
        heapq.heappush(self._waiting, number)
        self._changed.set()

    def _story(self) -> str:
        def said(server: ConcurrencyLimit) -> str:
            worst = ", ".join(f"{words} ({count} times)" for words, count in server.errors.most_common(3))
            return f"{server.address}: {worst or 'nothing'}"

        return "; ".join(map(said, self.servers))


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, Exception) else RuntimeError(str(found))
