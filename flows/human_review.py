"""Human review of a generation, by a form of the Prefect server; requests and decisions are in the run's journal.

A flow run of a deployment is suspended: its process ends, and the answer restarts it, where all finished stages are
read from the store. Any other flow run is paused: its process waits. Since the journal has the request and the
decision, no generation is reviewed twice, and a run that is resumed after the timeout applies the default decision.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
_POLL_SECONDS = 2
_SERVER_TIMEOUT_MARGIN = 600
"""Seconds by which the server's timeout of a pause exceeds the review's: at the former, the flow run fails."""


class ReviewInProgressError(HeirloomError):
    """Another flow run is suspended for a review of this attempt, and has no answer yet."""


def require_review_server(settings: ReviewSettings) -> None:
    """Check that a review can be answered.

    Raises:
        HeirloomError: reviews are on, and no Prefect server is set.
    """
    if settings.when != "never" and not has_persistent_server():
        raise HeirloomError(
            f"review.when is {settings.when!r}, which needs a Prefect server for the review form, and no Prefect "
            "server is set; start one and export PREFECT_API_URL, or set review.when to 'never'"
        )


def wait_for_review(
    generation: "Generation", settings: ReviewSettings, validate: Callable[[ReviewDecision], str]
) -> ReviewDecision | None:
    """Wait for the decision about an attempt, and write it to the journal; None if the attempt needs no review.

    Args:
        generation: attempt, with the action of the gate.
        settings: when to review, the timeout and the default decision.
        validate: returns the error of a decision, or "". An invalid decision is requested again, with the error.

    Raises:
        ReviewInProgressError: another flow run waits for the decision.
    """
    attempt = generation.attempt
    if decided := journal_entry(attempt, "reviewed"):
        return ReviewDecision(
            decided["decision"], decided.get("human_fraction"), tuple(decided["rejected_ids"]), decided["reason"]
        )
    needs_review = attempt.generation > 0 and generation.action in REVIEWED_ACTIONS[settings.when]
    if not needs_review or journal_entry(attempt, "accepted"):
        return None
    review = _request_decision(generation, settings, validate)
    fields: dict[str, str | float | list[str]] = {
        "decision": review.decision,
        "rejected_ids": list(review.rejected_ids),
        "reviewer": review.reviewer,
    }
    if review.human_fraction is not None:
        fields["human_fraction"] = review.human_fraction
    attempt.run.append("reviewed", attempt.generation, attempt.number, review.reason, **fields)
    logger.info("%s · review: %s, by %s", attempt, review.decision, review.reviewer)
    _emit(REVIEW_DECIDED, attempt, fields | {"reason": review.reason}, {"heirloom.verdict": review.decision})
    return review


def _request_decision(
    generation: "Generation", settings: ReviewSettings, validate: Callable[[ReviewDecision], str]
) -> ReviewDecision:
    """Request a decision until one is valid or the timeout is over; then the default decision applies."""
    attempt = generation.attempt
    human_fraction = round(read_manifest(generation.corpus.folder)["facts"]["human_fraction"], 3)
    deadline, error_note = _deadline(attempt, settings), ""
    for number in count(1):
        key = f"review-{attempt.generation}-{attempt.number}-{number}"
        paragraphs = (error_note, _description(generation, settings, deadline))
        description = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        answer = _wait_for_answer(_create_form(settings.default_decision, human_fraction, description), key, deadline)
        if answer is None:
            return ReviewDecision(
                settings.default_decision,
                reason=f"no answer within {settings.timeout_hours:g} h",
                reviewer="time limit",
            )
        is_changed = answer.decision == "redo" and answer.human_fraction != human_fraction
        review = ReviewDecision(
            answer.decision,
            answer.human_fraction if is_changed else None,
            tuple(answer.rejected_ids),
            answer.reason,
        )
        error = validate(review)
        if not error:
            return review
        logger.warning("%s · the review is invalid and requested again: %s", attempt, error)
        error_note = f"**Your answer is invalid: {error}**"
    raise AssertionError


def _wait_for_answer(form: type[Any], key: str, deadline: float) -> Any:  # noqa: ANN401  (the form is created at runtime)
    """Return the filled form; None if the timeout passed without an answer."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    flow_run, seconds_left = context.flow_run, deadline - time.time()
    if flow_run.deployment_id and not flow_run.parent_task_run_id:
        if seconds_left <= 0:
            # The answer may have been in time, and the restart late.
            values: Any = read_flow_run_input(f"suspended-{key}-response")
            return None if values is None else form(**values)
        return suspend_flow_run(wait_for_input=form, timeout=max(1, int(seconds_left)), key=key)
    with _resume_after(seconds_left, str(flow_run.id)) as expired:
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=max(0, int(seconds_left)) + _SERVER_TIMEOUT_MARGIN,
            poll_interval=min(_POLL_SECONDS, max(1, int(seconds_left))),
            key=key,
        )
    return None if expired.is_set() else answer


@contextlib.contextmanager
def _resume_after(seconds: float, flow_run: str) -> Iterator[threading.Event]:
    """Resume a paused flow run after some seconds, with an unchanged form; yield the event that is set by this."""
    from uuid import UUID

    expired, answered = threading.Event(), threading.Event()

    def resume() -> None:
        delay = max(1.0, seconds)
        while not answered.wait(delay):
            delay = 1.0
            # A slow server may not have paused the flow run yet.
            with contextlib.suppress(NotPausedError):
                resume_flow_run(UUID(flow_run), run_input={})
                expired.set()
                return

    threading.Thread(target=copy_context().run, args=[resume], daemon=True).start()
    try:
        yield expired
    finally:
        answered.set()


def _create_form(default_decision: str, human_fraction: float, description: str) -> type[RunInput]:
    """Create the form, filled with the default decision and the current human fraction."""
    # Prefect's own way to set initial values drops the titles, help texts and limits of the fields.
    form = create_model(
        "Review",
        __base__=RunInput,
        decision=(
            ReviewAction,
            Field(
                default_decision,
                title="Decision",
                description="accept: continue from this generation; redo: repeat it with another random seed; "
                "stop: end the run with it",
                json_schema_extra={"position": 0},
            ),
        ),
        human_fraction=(
            float,
            Field(
                human_fraction,
                ge=0,
                le=1,
                title="Human fraction",
                description="for redo: human fraction of the corpus and of those of later generations; if unchanged, "
                "the mix settings remain as they are",
                json_schema_extra={"position": 1},
            ),
        ),
        rejected_ids=(
            list[str],
            Field(
                default_factory=list,
                title="Rejected records",
                description="ids of records to exclude from every later corpus and from prompts",
                json_schema_extra={"position": 2},
            ),
        ),
        reason=(str, Field("", title="Reason", description="stored in the journal", json_schema_extra={"position": 3})),
    )
    form._description = description  # noqa: SLF001  (Prefect reads the description from this attribute)
    return form


def _deadline(attempt: Attempt, settings: ReviewSettings) -> float:
    """Return the end of the timeout, counted from the first request, which is written to the journal.

    Raises:
        ReviewInProgressError: another flow run is suspended for this review.
    """
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    flow_run, request = str(context.flow_run.id), journal_entry(attempt, "review_requested")
    if request is None:
        deadline = time.time() + settings.timeout_hours * 3600
        attempt.run.append("review_requested", attempt.generation, attempt.number, deadline=deadline, flow_run=flow_run)
        until, url = _format_time(deadline), _flow_run_url(flow_run)
        logger.warning("%s · waits for a review until %s, at %s", attempt, until, url)
        _emit(REVIEW_REQUESTED, attempt, {"until": until, "default": settings.default_decision, "form": url})
        return deadline
    deadline, requested_by = float(request["deadline"]), str(request["flow_run"])
    if requested_by != flow_run and time.time() < deadline and _is_suspended(requested_by):
        raise ReviewInProgressError(f"{attempt} waits for a review at {_flow_run_url(requested_by)}")
    return deadline


def _is_suspended(flow_run: str) -> bool:
    from uuid import UUID

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        state = client.read_flow_run(UUID(flow_run)).state
        # A paused flow run whose process is alive holds the lock of the run. This process has the lock, so the other
        # process has ended: only a suspended flow run, which is rescheduled by its answer, still waits.
        return bool(state and state.is_paused() and state.state_details.pause_reschedule)
    return False


def _description(generation: "Generation", settings: ReviewSettings, deadline: float) -> str:
    rule = f"Without an answer until **{_format_time(deadline)}** the decision is **{settings.default_decision}**."
    return f"{rule}\n\n{review_summary(generation.attempt, generation.action, generation.reasons)}"


def _format_time(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(timestamp))


def _flow_run_url(flow_run: str) -> str:
    return f"{str(PREFECT_API_URL.value()).removesuffix('/api')}/runs/flow-run/{flow_run}"


def _emit(event: str, attempt: Attempt, payload: Mapping[str, object], labels: dict[str, str] | None = None) -> None:
    resource = {"prefect.resource.id": f"heirloom.run.{attempt.run.name}", "prefect.resource.name": str(attempt)}
    emit_event(event, resource=resource | (labels or {}), payload=dict(payload))
