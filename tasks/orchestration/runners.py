"""Map a function over pieces of a stage, on threads of this machine or on a Ray cluster.

Each piece is a Prefect task run, so it is visible and can be retried. A piece should have thousands of texts, since a
task on another machine costs about 0.1 s. Its result must not depend on where it runs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.backends.workers.ray_cluster import LOCAL, LOCAL_RAY_INIT, QUIET_RAY_INIT, new_token, require_ray
from tasks.orchestration.prefect import in_flow_run

R = TypeVar("R")

_MAX_PENDING = 32
"""Pieces submitted at once: a bound on memory here, and on the machines that work at the same time."""


def task_runner_for(ray: str) -> TaskRunner[Any]:
    """Return the task runner for a value of `resources.ray`.

    Args:
        ray: Empty for a thread, `local` for a Ray cluster started on this machine, or a cluster's address.

    Raises:
        HeirloomError: `ray` is set, and Ray is not installed.
    """
    if not ray:
        # NumPy, Arrow and torch use all cores themselves, so a second piece would only wait for them.
        return ThreadPoolTaskRunner(max_workers=1)
    require_ray()
    from prefect_ray import RayTaskRunner

    if ray == LOCAL:
        new_token()
        return RayTaskRunner(init_kwargs=LOCAL_RAY_INIT)
    return RayTaskRunner(address=ray, init_kwargs=QUIET_RAY_INIT)


def map_pieces(
    function: Callable[..., R], pieces: Iterable[tuple[object, ...]], name: str, max_pending: int = _MAX_PENDING
) -> Iterator[R]:
    """Yield `function(*piece)` for each piece, in order; outside a flow run one after another in this process.

    Args:
        function: Function that can be pickled.
        pieces: Arguments of each call.
        name: Name of the Prefect tasks.
        max_pending: Maximum number of pieces submitted and not yet yielded.
    """
    if not in_flow_run():
        for piece in pieces:
            yield function(*piece)
        return
    piece_task: Task[..., R] = task(name=name, cache_policy=NO_CACHE, persist_result=False)(function)
    remaining = iter(pieces)
    pending = deque(_submit(piece_task, piece) for piece in islice(remaining, max_pending))
    while pending:
        yield pending.popleft().result()
        pending.extend(_submit(piece_task, piece) for piece in islice(remaining, 1))


def _submit(piece_task: Task[..., R], piece: tuple[object, ...]) -> PrefectFuture[R]:
    """Submit a piece without the parameters of the current flow and task.

    Prefect pickles the run contexts and sends them along. Their parameters are useless there, and some (processes,
    locks) cannot be pickled.
    """
    with ExitStack() as contexts:
        for context in (FlowRunContext.get(), TaskRunContext.get()):
            if context is not None:
                contexts.enter_context(context.model_copy(update={"parameters": {}}))
        return piece_task.submit(*piece)
