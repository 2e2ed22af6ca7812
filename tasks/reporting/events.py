"""Announce a finished generation to a persistent Prefect server: an event, a page, and assets with their lineage.

The manifests remain the only record of what is finished.
"""

import httpx
from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from storage.artifacts.artifact import read_manifest
from storage.runs.run import Attempt
from storage.runs.status import AttemptSummary, attempt_summaries, attempt_summary, journal_entry
from tasks.orchestration.prefect import has_persistent_server
from tasks.orchestration.progress import logger
from tasks.reporting.review_page import AttemptCatalog, artifact_key, generation_page

FINISHED = "heirloom.generation.finished"

_ASSETS = ("corpus", "model")
_GATE_RESULTS = (
    'select metric, round(value, 4) as value, round("limit", 4) as "limit", action, reason '
    "from gate_results_all_attempts where {here} order by action = 'go', metric"
)


def emit_generation_event(attempt: Attempt, action: str, reasons: str = "") -> None:
    """Announce an attempt with a verdict, once; without a persistent server do nothing.

    An unreachable server is logged and does not end the run, since the store has the same information.

    Args:
        attempt: Attempt with a verdict.
        action: Verdict of the gate.
        reasons: Reasons of the verdict, or empty.
    """
    if not has_persistent_server() or _is_announced(attempt):
        return
    try:
        _announce(attempt, action, reasons)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("%s · cannot announce the generation to the Prefect server: %s", attempt, error)


def log_generation(attempt: Attempt, action: str, reasons: str = "") -> None:
    """Log one line about an attempt with a verdict: the verdict, its reasons, and the numbers that matter most."""
    summary = attempt_summary(attempt)
    numbers = []
    if summary.perplexity is not None:
        numbers.append(f"perplexity {summary.perplexity:,.1f}")
    if summary.candidates is not None:
        numbers.append(f"{summary.survivors or 0:,} of {summary.candidates:,} candidates kept")
    if summary.corpus is not None and summary.human_fraction is not None:
        numbers.append(f"{summary.corpus:,} records in the corpus, {summary.human_fraction:.0%} human")
    numbers.append(f"{summary.work_seconds:,.0f} s")
    verdict = f"{action}, {reasons}" if reasons else action
    logger.info("%s · %s; %s", attempt, verdict, "; ".join(numbers))


def tag_flow_run(**tags: str) -> None:
    """Tag the current flow run with `key:value`, as in `policy:anchor`; a tag with the same key is replaced."""
    context = FlowRunContext.get()
    if not has_persistent_server() or context is None or context.flow_run is None:
        return
    other_tags = [tag for tag in context.flow_run.tags if tag.partition(":")[0] not in tags]
    context.flow_run.tags = other_tags + [f"{key}:{value}" for key, value in tags.items()]
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=context.flow_run.tags)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("cannot tag the flow run with %s: %s", tags, error)


def _is_announced(attempt: Attempt) -> bool:
    # A run that was suspended for a review passes here again when it resumes.
    return bool(journal_entry(attempt, "accepted") or journal_entry(attempt, "review_requested"))


def _announce(attempt: Attempt, action: str, reasons: str) -> None:
    attempts = attempt_summaries(attempt.run)
    (summary,) = (
        summary for summary in attempts if (summary.generation, summary.attempt) == (attempt.generation, attempt.number)
    )
    key = artifact_key(attempt)
    description = f"{attempt}: {action}" + (f", {reasons}" if reasons else "")
    create_markdown_artifact(generation_page(attempt, action, reasons, attempts), f"{key}-generation", description)
    create_table_artifact(AttemptCatalog(attempt).query(_GATE_RESULTS), f"{key}-gate", description)
    for name in _ASSETS:
        _emit_asset(attempt, name)
    emit_event(
        FINISHED,
        resource={
            "prefect.resource.id": f"heirloom.run.{attempt.run.name}",
            "prefect.resource.name": str(attempt),
            "heirloom.verdict": action,
        },
        payload=_payload(summary, action, reasons),
    )


def _payload(summary: AttemptSummary, action: str, reasons: str) -> dict[str, object]:
    payload = {
        "verdict": action,
        "reasons": reasons,
        "generation": summary.generation,
        "attempt": summary.attempt,
        "perplexity": summary.perplexity,
        "corpus": summary.corpus,
        "human_fraction": summary.human_fraction,
        "seconds": round(summary.work_seconds, 1),
        "bytes": summary.bytes,
    }
    return {name: value for name, value in payload.items() if value not in (None, "")}


def _emit_asset(attempt: Attempt, name: str) -> None:
    """Emit the event that Prefect emits for its own assets: identity of an artifact and its parents in the attempt."""
    manifest = read_manifest(attempt.folder / name)
    parents = [attempt.folder / parent for parent in manifest["parents"] if (attempt.folder / parent).exists()]
    emit_event(
        "prefect.asset.materialization.succeeded",
        resource={
            "prefect.resource.id": (attempt.folder / name).absolute().as_uri(),
            "prefect.resource.name": f"{attempt} · {name}",
        },
        related=[
            {"prefect.resource.id": parent.absolute().as_uri(), "prefect.resource.role": "asset"} for parent in parents
        ],
        payload={"fingerprint": manifest["fingerprint"], "rows": manifest["rows"]},
    )
