"""What a Prefect server is told of a finished generation: an event to act on, a page to read, assets to trace.

Told while someone can look; what is finished is said by the manifests alone.
"""

from typing import Any

import httpx
from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from storage.artifacts.artifact import read_manifest
from storage.runs.run import Attempt
from storage.runs.status import AttemptSummary, attempt_summaries, journal_entry
from tasks.orchestration.prefect import has_persistent_server
from tasks.orchestration.progress import logger
from tasks.reporting.review_page import _asking, _slug, generation_page

FINISHED = "heirloom.generation.finished"


_ASSETS = ("corpus", "model")


def emit_generation_event(attempt: Attempt, action: str, reasons: str = "") -> None:
    """Tell the server that is set, once, of a generation that has its verdict; without a server, nothing.

    A server that cannot be reached is no reason to end a run: what it would have been told is in the store.
    """
    if not has_persistent_server() or _told(attempt):
        return
    try:
        _announce(attempt, action, reasons)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("%s · the server was not told: %s", attempt, error)


def _told(attempt: Attempt) -> bool:
    # A run that was suspended for a review comes by here again.
    return bool(journal_entry(attempt, "accepted") or journal_entry(attempt, "review_requested"))


def _announce(attempt: Attempt, action: str, reasons: str) -> None:
    lived = attempt_summaries(attempt.run)
    (turn,) = (one for one in lived if (one.generation, one.attempt) == (attempt.generation, attempt.number))
    slug = _slug(attempt)
    verdicts = _asking(attempt)(
        'select metric, value, "limit", action, reason from gate_results_all_attempts where {here} order by metric'
    )
    summary = f"{attempt}: {action}" + (f", {reasons}" if reasons else "")
    create_markdown_artifact(generation_page(attempt, action, reasons, lived), f"{slug}-generation", summary)
    create_table_artifact(
        [dict(zip(("metric", "value", "limit", "action", "reason"), row, strict=True)) for row in verdicts],
        f"{slug}-gate",
        summary,
    )
    for name in _ASSETS:
        _trace(attempt, name)
    emit_event(
        FINISHED,
        resource={
            "prefect.resource.id": f"heirloom.run.{attempt.run.name}",
            "prefect.resource.name": str(attempt),
            "heirloom.verdict": action,
        },
        payload=_payload(turn, action, reasons),
    )


def tag_flow_run(**told: str) -> None:
    """Tag the flow run that is going on, as `policy:anchor`; a tag of the same kind is replaced."""
    context = FlowRunContext.get()
    if not has_persistent_server() or context is None or context.flow_run is None:
        return
    kept = [tag for tag in context.flow_run.tags if tag.partition(":")[0] not in told]
    context.flow_run.tags = kept + [f"{kind}:{value}" for kind, value in told.items()]
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=context.flow_run.tags)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the server was not told %s: %s", told, error)


def _payload(turn: AttemptSummary, action: str, reasons: str) -> dict[str, Any]:
    told = {
        "verdict": action,
        "reasons": reasons,
        "generation": turn.generation,
        "attempt": turn.attempt,
        "perplexity": turn.perplexity,
        "corpus": turn.corpus,
        "human_fraction": turn.human_fraction,
        "seconds": round(turn.work_seconds, 1),
        "bytes": turn.bytes,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _trace(attempt: Attempt, name: str) -> None:
    """Tell of an artifact as Prefect's own assets are told of: what it is, and what it was made from."""
    manifest = read_manifest(attempt.folder / name)
    above = [attempt.folder / parent for parent in manifest["parents"] if (attempt.folder / parent).exists()]
    emit_event(
        "prefect.asset.materialization.succeeded",
        resource={
            "prefect.resource.id": (attempt.folder / name).absolute().as_uri(),
            "prefect.resource.name": f"{attempt} · {name}",
        },
        related=[
            {"prefect.resource.id": parent.absolute().as_uri(), "prefect.resource.role": "asset"} for parent in above
        ],
        payload={"fingerprint": manifest["fingerprint"], "rows": manifest["rows"]},
    )
