"""Prefect is a coat: a verb or a story wears it when a run is orchestrated, and walks without it when not.

Inside a flow run, a verb is a Prefect task run. Outside one, it is the plain function. A story is always a
flow run, unless it is called inside `without_coat()`, when it and all it calls are plain functions.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

Function = TypeVar("Function", bound=Callable[..., Any])

_bare: ContextVar[bool] = ContextVar("bare", default=False)


@contextlib.contextmanager
def without_coat() -> Iterator[None]:
    """Within the block stories and verbs are plain functions; no server is needed."""
    token = _bare.set(True)
    try:
        yield
    finally:
        _bare.reset(token)


def verb(function: Function) -> Function:
    """A task named like the function, never cached by Prefect: the artifact says what is finished."""
    # Without NO_CACHE Prefect would hash every argument of every call.
    worn = task(function, name=function.__name__, cache_policy=NO_CACHE, persist_result=False)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        return (worn if FlowRunContext.get() else function)(*arguments, **named)

    return call  # type: ignore[return-value]


def story(**options: Any) -> Callable[[Function], Function]:  # noqa: ANN401
    """A flow with Prefect's own options; `flow` on the result is the Prefect flow, for deployments."""

    def dress(function: Function) -> Function:
        worn = flow(function, persist_result=False, **options)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            return (function if _bare.get() else worn)(*arguments, **named)

        call.flow = worn  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return dress
