"""Prefect is a coat: a verb or a story wears it when a run is orchestrated, and walks without it when not.

Inside a flow run, a verb is a Prefect task run. Outside one, it is the plain function. A story is always a
flow run, unless it is called inside `without_prefect()`, when it and all it calls are plain functions.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

P = ParamSpec("P")
R = TypeVar("R")

_bare: ContextVar[bool] = ContextVar("bare", default=False)
_unseen: ContextVar[bool] = ContextVar("unseen", default=False)


def without_prefect() -> contextlib.AbstractContextManager[None]:
    """Within the block stories and verbs are plain functions; no server is needed."""
    return _marked(_bare)


def ephemeral_server() -> contextlib.AbstractContextManager[None]:
    """Within the block nobody can look at a flow run: its server ends with it."""
    return _marked(_unseen)


def in_flow_run() -> bool:
    """Whether the caller is in a flow run, and not without its coat."""
    return FlowRunContext.get() is not None and not _bare.get()


def has_persistent_server() -> bool:
    """Whether the caller is watched by a server that people can look at, as it is set and lives on."""
    return in_flow_run() and bool(PREFECT_API_URL.value()) and not _unseen.get()


def task(function: Callable[P, R]) -> Callable[P, R]:
    """A task named like the function, never cached by Prefect: the artifact says what is finished."""
    # Without NO_CACHE Prefect would hash every argument of every call.
    worn = prefect.task(name=function.__name__, cache_policy=NO_CACHE, persist_result=False)(function)

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        return worn(*arguments, **named) if in_flow_run() else function(*arguments, **named)

    return call


def with_task_runner(flow_function: Callable[P, R], runner: TaskRunner[Any]) -> Callable[P, R]:
    """The same story, the tasks that it submits run by another runner; without a coat just the story."""
    if _bare.get():
        return flow_function
    worn: Callable[P, R] = flow_function.flow.with_options(task_runner=runner)  # type: ignore[attr-defined]
    return worn


def flow(
    name: str, flow_run_name: str, *, validate_parameters: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A flow; the Prefect flow itself is the attribute `flow` of the result, for deployments."""

    def dress(function: Callable[P, R]) -> Callable[P, R]:
        worn = prefect.flow(
            name=name, flow_run_name=flow_run_name, validate_parameters=validate_parameters, persist_result=False
        )(function)

        @functools.wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> R:
            return function(*arguments, **named) if _bare.get() else worn(*arguments, **named)

        call.flow = worn  # type: ignore[attr-defined]
        return call

    return dress


@contextlib.contextmanager
def _marked(mark: ContextVar[bool]) -> Iterator[None]:
    token = mark.set(True)
    try:
        yield
    finally:
        mark.reset(token)
