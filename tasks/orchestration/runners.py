"""The pieces of one heavy stage, by threads of this machine or by the machines of a Ray cluster, answers in order.

Through Prefect's task runners, so each piece is a task run that is seen and can be retried. A piece is thousands of
texts: a task on another machine costs a tenth of a second. What a piece answers must not depend on who did it.
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

from tasks.backends.workers.ray_cluster import LOCAL, LOCAL_RAY_INIT, QUIET_RAY_INIT, require_ray
from tasks.orchestration.prefect import in_flow_run

R = TypeVar("R")

_AHEAD = 32
"""Pieces that are on their way at once: what waits on this machine, and most machines that have work."""


def task_runner_for(ray: str) -> TaskRunner[Any]:
    """Who runs the pieces: threads, or the Ray cluster at an address; `local` starts one on this machine.

    Raises:
        HeirloomError: Ray is asked for and not installed.
    """
    if not ray:
        # Libraries use the cores themselves; a second piece would only wait for them.
        return ThreadPoolTaskRunner(max_workers=1)
    require_ray()
    from prefect_ray import RayTaskRunner

    return (
        RayTaskRunner(init_kwargs=LOCAL_RAY_INIT)
        if ray == LOCAL
        else RayTaskRunner(address=ray, init_kwargs=QUIET_RAY_INIT)
    )


def map_pieces(
    function: Callable[..., R], pieces: Iterable[tuple[Any, ...]], name: str, ahead: int = _AHEAD
) -> Iterator[R]:
    """What `function` makes of each piece, in order; outside a flow run one after the other."""
    if not in_flow_run():
        for piece in pieces:
            yield function(*piece)
        return
    worn: Task[..., R] = task(name=name, cache_policy=NO_CACHE, persist_result=False)(function)

    def send(piece: tuple[Any, ...]) -> PrefectFuture[R]:
        with ExitStack() as bare:
            # They go along to the other machine, where what flow and task were given is of no use, and processes and locks cannot go.
            for context in (FlowRunContext.get(), TaskRunContext.get()):
                if context is not None:
                    bare.enter_context(context.model_copy(update={"parameters": {}}))
            return worn.submit(*piece)

    waiting, sent = iter(pieces), deque[PrefectFuture[R]]()
    sent.extend(send(piece) for piece in islice(waiting, ahead))
    while sent:
        yield sent.popleft().result()
        sent.extend(send(piece) for piece in islice(waiting, 1))
