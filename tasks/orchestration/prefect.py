"""`@task` and `@flow` decorators that fall back to plain function calls outside a flow run.

| call                          | `@task` function | `@flow` function |
|-------------------------------|------------------|------------------|
| inside a flow run             | Prefect task run | Prefect subflow  |
| outside                       | plain call       | Prefect flow run |
| inside `without_prefect()`    | plain call       | plain call       |

So one definition of a stage serves a run with a Prefect server, `heirloom run` without one, tests and notebooks.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import opaque

from tasks.orchestration.arguments import Constant

_MAX_PARAMETER_BYTES = 262_144
"""JSON of all parameters of a flow run that is recorded in full. A server refuses twice as much."""
_MAX_VALUE_BYTES = 2048
"""JSON of one value that stays when the parameters together are too large."""
_MAX_ENTRIES = 64
"""Entries of an object or list that are looked at one by one when the parameters are too large."""


P = ParamSpec("P")
R = TypeVar("R")

_prefect_disabled: ContextVar[bool] = ContextVar("prefect_disabled", default=False)
_server_is_ephemeral: ContextVar[bool] = ContextVar("server_is_ephemeral", default=False)


def task(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a Prefect task of the same name, when it is called in a flow run."""
    # Finished artifacts are the cache. Without NO_CACHE Prefect would also hash all arguments of each call.
    prefect_task = prefect.task(name=function.__name__, cache_policy=NO_CACHE, persist_result=False)(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if in_flow_run():
            hidden: Any = prefect_task  # `opaque` is not the type of the parameter that it stands for.
            return hidden(*map(_hide_constant, args), **{name: _hide_constant(value) for name, value in kwargs.items()})
        return function(*args, **kwargs)

    return call


def _hide_constant(value: object) -> object:
    return opaque(value) if isinstance(value, Constant) else value


def flow(
    name: str, flow_run_name: str, *, validate_parameters: bool = True
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a Prefect flow, unless it is called inside `without_prefect()`.

    The Prefect flow itself is the attribute `flow` of the decorated function: deployments need it.

    Args:
        name: Name of the flow.
        flow_run_name: Template of the name of a flow run, with the function's parameters: `"{name}"`.
        validate_parameters: Whether Prefect validates and converts the arguments with pydantic.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        def build_flow(task_runner: TaskRunner[Any] | None = None) -> prefect.Flow[P, R]:
            return _RecordedFlow(
                function,
                name=name,
                flow_run_name=flow_run_name,
                task_runner=task_runner,
                validate_parameters=validate_parameters,
                persist_result=False,
            )

        prefect_flow = build_flow()

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if _prefect_disabled.get():
                return function(*args, **kwargs)
            return prefect_flow(*args, **kwargs)

        call.flow = prefect_flow  # type: ignore[attr-defined]
        call.build_flow = build_flow  # type: ignore[attr-defined]
        return call

    return decorate


def with_task_runner(flow_function: Callable[P, R], runner: TaskRunner[Any]) -> Callable[P, R]:
    """Return a `@flow` function whose tasks use another task runner; unchanged inside `without_prefect()`."""
    if _prefect_disabled.get():
        return flow_function
    # `Flow.with_options` would return a flow of Prefect's own class.
    configured: Callable[P, R] = flow_function.build_flow(task_runner=runner)  # type: ignore[attr-defined]
    return configured


class _RecordedFlow(prefect.Flow[P, R]):
    """A flow that runs with its arguments, and records them on the server as far as the server accepts them.

    A server refuses a flow run whose parameters have more than 512 KiB as JSON. The recorded ones are only shown: what
    a run did is in its `run.json`.
    """

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as JSON values, with a note in place of each value that is too large."""
        values = super().serialize_parameters(parameters)
        if _json_bytes(values) <= _MAX_PARAMETER_BYTES:
            return values
        shortened = {name: _shorten(value) for name, value in values.items()}
        if _json_bytes(shortened) <= _MAX_PARAMETER_BYTES:
            return shortened
        return {name: _note(value) for name, value in values.items()}


def _shorten(value: object) -> object:
    """Return a JSON value with a note in place of each part that is too large."""
    if _json_bytes(value) <= _MAX_VALUE_BYTES:
        return value
    if isinstance(value, dict) and len(value) <= _MAX_ENTRIES:
        return {key: _shorten(entry) for key, entry in value.items()}
    if isinstance(value, list) and len(value) <= _MAX_ENTRIES:
        return [_shorten(entry) for entry in value]
    return _note(value)


def _note(value: object) -> str:
    entries = f"{len(value):,} entries, " if isinstance(value, dict | list) else ""
    return f"({entries}{_json_bytes(value):,} bytes, not recorded here)"


def _json_bytes(value: object) -> int:
    return len(json.dumps(value, default=str).encode())


def with_state(result: R, name: str, message: str) -> R:
    """Return the result of a flow so that its flow run ends in a completed state of this name, with this message.

    Return it from the flow function itself. Callers of the flow get `result`.
    """
    if not in_flow_run():
        return result
    # Prefect takes a state that a flow returns as its final one, and gives the data of the state to the caller.
    return Completed(name=name, message=message, data=result)  # type: ignore[return-value]


def without_prefect() -> contextlib.AbstractContextManager[None]:
    """Call flows and tasks as plain functions within the block; no server is needed."""
    return _set_within_block(_prefect_disabled)


def ephemeral_server() -> contextlib.AbstractContextManager[None]:
    """Declare that the Prefect server ends with this process, so pages and events for its users are pointless."""
    return _set_within_block(_server_is_ephemeral)


def in_flow_run() -> bool:
    """Return whether the caller is in a flow run, and not inside `without_prefect()`."""
    return FlowRunContext.get() is not None and not _prefect_disabled.get()


def has_persistent_server() -> bool:
    """Return whether the caller is in a flow run on a configured server that outlives this process."""
    return in_flow_run() and bool(PREFECT_API_URL.value()) and not _server_is_ephemeral.get()


@contextlib.contextmanager
def _set_within_block(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)
