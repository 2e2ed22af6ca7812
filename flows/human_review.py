"""A person decides about a generation: asked by a form of the Prefect server, remembered in the run's journal.

A flow run of a deployment is suspended: its process ends, and the answer starts it again, where it finds everything finished.
Any other one waits where it is. What was asked and what was decided is in the journal, so nothing is asked twice,
and whoever goes on with a run after the time limit finds its default in force.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from itertools import count
from typing import TYPE_CHECKING, Any

from prefect import get_client
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import NotPausedError, ObjectNotFound
from prefect.flow_runs import pause_flow_run, resume_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.input.actions import read_flow_run_input
from prefect.settings import PREFECT_API_URL
from pydantic import Field, create_model

from curation.review import REVIEWED_ACTIONS, ReviewAction, ReviewDecision, ReviewSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import read_manifest
from storage.runs.run import Attempt
from storage.runs.status import journal_entry
from tasks.orchestration.prefect import has_persistent_server
from tasks.orchestration.progress import logger
from tasks.reporting.review_page import review_summary

if TYPE_CHECKING:
    from tasks.context import Generation

REVIEW_REQUESTED, REVIEW_DECIDED = "heirloom.review.requested", "heirloom.review.decided"
_POLL = 2
_GRACE = 600
"""Seconds that the server's own time limit of a pause is beyond ours: where it ends, the flow run fails."""


class ReviewInProgressError(HeirloomError):
    """Another flow run of the server is suspended over this attempt, and its answer is still awaited."""


def require_review_server(settings: ReviewSettings) -> None:
    """Check that somebody could answer.

    Raises:
        HeirloomError: a person is to be asked, and there is no server to ask by.
    """
    if settings.when != "never" and not has_persistent_server():
        raise HeirloomError(
            f"review.when is {settings.when!r}, and no Prefect server is set by whose form somebody could answer; "
            "start one and export PREFECT_API_URL, or set review.when to 'never'"
        )


def wait_for_review(
    generation: "Generation", settings: ReviewSettings, validate: Callable[[ReviewDecision], str]
) -> ReviewDecision | None:
    """What was decided about an attempt, after waiting for it; None where nobody is to be asked.

    `fault` says in a sentence what is wrong with an answer; then it is asked again, with that sentence.

    Raises:
        AskedElsewhereError: another flow run waits for the answer.
    """
    attempt = generation.attempt
    if found := journal_entry(attempt, "reviewed"):
        return ReviewDecision(
            found["decision"], found.get("human_fraction"), tuple(found["rejected_ids"]), found["reason"]
        )
    asked = attempt.generation > 0 and generation.action in REVIEWED_ACTIONS[settings.when]
    if not asked or journal_entry(attempt, "accepted"):
        return None
    review = _answer(generation, settings, validate)
    told: dict[str, Any] = {
        "decision": review.decision,
        "rejected_ids": list(review.rejected_ids),
        "reviewer": review.reviewer,
    }
    told |= {} if review.human_fraction is None else {"human_fraction": review.human_fraction}
    attempt.run.append("reviewed", attempt.generation, attempt.number, review.reason, **told)
    logger.info("%s · review: %s, by %s", attempt, review.decision, review.reviewer)
    _tell(REVIEW_DECIDED, attempt, told | {"reason": review.reason}, {"heirloom.verdict": review.decision})
    return review


def _answer(turn: "Generation", settings: ReviewSettings, fault: Callable[[ReviewDecision], str]) -> ReviewDecision:
    attempt, share = turn.attempt, round(read_manifest(turn.corpus.folder)["facts"]["human_fraction"], 3)
    deadline, said = _deadline(attempt, settings), ""
    for number in count(1):
        key = f"review-{attempt.generation}-{attempt.number}-{number}"
        description = "\n\n".join(part for part in (said, _head(turn, settings, deadline)) if part)
        answer = _asked(_form(settings.default_decision, share, description), key, deadline)
        if answer is None:
            return ReviewDecision(
                settings.default_decision,
                reason=f"nobody answered in {settings.timeout_hours:g} h",
                reviewer="time limit",
            )
        raised = answer.human_fraction if answer.decision == "redo" and answer.human_fraction != share else None
        review = ReviewDecision(answer.decision, raised, tuple(answer.rejected_ids), answer.reason)
        if not (wrong := fault(review)):
            return review
        logger.warning("%s · the review is asked again: %s", attempt, wrong)
        said = f"**Your answer was not taken: {wrong}**"
    raise AssertionError


def _asked(form: type[Any], key: str, deadline: float) -> Any:  # noqa: ANN401  (a form made on the spot)
    """The filled form; None where the time limit passed without an answer."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    run, left = context.flow_run, deadline - time.time()
    if run.deployment_id and not run.parent_task_run_id:
        if left <= 0:
            # It may have been answered in time, and be late in starting again.
            given: Any = read_flow_run_input(f"suspended-{key}-response")
            return None if given is None else form(**given)
        return suspend_flow_run(wait_for_input=form, timeout=max(1, int(left)), key=key)
    with _default_after(left, str(run.id)) as expired:
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=max(0, int(left)) + _GRACE,
            poll_interval=min(_POLL, max(1, int(left))),
            key=key,
        )
    return None if expired.is_set() else answer


@contextlib.contextmanager
def _default_after(seconds: float, flow_run: str) -> Iterator[threading.Event]:
    """Resume a paused flow run after so long, with its form as it is; the event says whether that was what resumed it."""
    from uuid import UUID

    expired, over = threading.Event(), threading.Event()

    def resume() -> None:
        left = max(1.0, seconds)
        while not over.wait(left):
            left = 1.0
            # A slow server may not have paused it yet.
            with contextlib.suppress(NotPausedError):
                resume_flow_run(UUID(flow_run), run_input={})
                expired.set()
                return

    threading.Thread(target=copy_context().run, args=[resume], daemon=True).start()
    try:
        yield expired
    finally:
        over.set()


def _form(default: str, share: float, description: str) -> type[RunInput]:
    """The form, filled with what counts where nobody touches it."""
    # Prefect's own way of filling a form loses the titles, the help and the limits of its fields.
    form = create_model(
        "Review",
        __base__=RunInput,
        decision=(
            ReviewAction,
            Field(
                default,
                title="What becomes of this generation",
                description="accept: go on from it; redo: make it again with other dice; stop: end the run with it",
                json_schema_extra={"position": 0},
            ),
        ),
        human_fraction=(
            float,
            Field(
                share,
                ge=0,
                le=1,
                title="Human share",
                description="redo: of the records of its corpus, and of those that follow; unchanged, the mixing stays as it is",
                json_schema_extra={"position": 1},
            ),
        ),
        rejected_ids=(
            list[str],
            Field(
                default_factory=list,
                title="Rejected records",
                description="ids of records that no later corpus may hold, and no prompt be made from",
                json_schema_extra={"position": 2},
            ),
        ),
        reason=(str, Field("", title="Why", description="kept in the journal", json_schema_extra={"position": 3})),
    )
    form._description = description  # noqa: SLF001  (where Prefect keeps it)
    return form


def _deadline(attempt: Attempt, settings: ReviewSettings) -> float:
    """When the time limit ends, counted from when it was first asked.

    Raises:
        AskedElsewhereError: a flow run is suspended over it.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    mine, asked = str(context.flow_run.id), journal_entry(attempt, "review_requested")
    if asked is None:
        deadline = time.time() + settings.timeout_hours * 3600
        attempt.run.append("review_requested", attempt.generation, attempt.number, deadline=deadline, flow_run=mine)
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(deadline))
        logger.warning("%s · waits for a review until %s, at %s", attempt, until, _address(mine))
        _tell(REVIEW_REQUESTED, attempt, {"until": until, "default": settings.default_decision, "form": _address(mine)})
        return deadline
    deadline, theirs = float(asked["deadline"]), str(asked["flow_run"])
    if theirs != mine and time.time() < deadline and _suspended(theirs):
        raise ReviewInProgressError(f"{attempt} waits for a review at {_address(theirs)}")
    return deadline


def _suspended(flow_run: str) -> bool:
    from uuid import UUID

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(flow_run)).state
        # One that waits in its process has the lock of the run; if we have it, that process is gone.
        return bool(state and state.is_paused() and state.state_details.pause_reschedule)
    return False


def _head(turn: "Generation", settings: ReviewSettings, deadline: float) -> str:
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(deadline))
    rule = f"Without an answer until **{until}** what counts is **{settings.default_decision}**."
    return f"{rule}\n\n{review_summary(turn.attempt, turn.action, turn.reasons)}"


def _address(flow_run: str) -> str:
    return f"{str(PREFECT_API_URL.value()).removesuffix('/api')}/runs/flow-run/{flow_run}"


def _tell(event: str, attempt: Attempt, payload: dict[str, Any], labels: dict[str, str] | None = None) -> None:
    resource = {"prefect.resource.id": f"heirloom.run.{attempt.run.name}", "prefect.resource.name": str(attempt)}
    emit_event(event, resource=resource | (labels or {}), payload=payload)
