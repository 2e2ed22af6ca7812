"""Markdown page of one generation for the Prefect UI, and the summary that a reviewer reads."""

import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from storage.artifacts.artifact import MANIFEST, read_manifest
from storage.query.catalog import open_catalog
from storage.runs.run import Attempt
from storage.runs.status import AttemptSummary
from tasks.reporting.templating import render

Row: TypeAlias = dict[str, Any]
"""A row of a query result, by column."""

_SHOWN_VALUES = 8
"""Perplexities that are shown as numbers: those of the newest generations."""
_BARS = "▁▂▃▄▅▆▇█"

# In each query, {here} selects the attempt.
_DROPPED = """select filter, reason, count(*) as records from decisions_all_attempts
    where not kept and {here} group by all
    union all select 'kept', '', (select count(*) from candidates_all_attempts where {here})
        - (select count(distinct id) from decisions_all_attempts where not kept and {here})
    where exists (select 1 from candidates_all_attempts where {here}) order by 3 desc, 1, 2"""
_FILTER_RATE_ALERTS = "select unnest(filter_rate_alerts).reason as reason from generations_all_attempts where {here}"
_CORPUS_SAMPLES = """select id, text from corpus_all_attempts
    where {here} and origin = 'synthetic' and source_generation = {generation} order by hash(id) limit 4"""
_LIMITS = """select metric, value, if(action = 'go', 'within', 'beyond') as relation, "limit"
    from gate_results_all_attempts
    where {here} and value is not null and "limit" is not null order by metric"""
_GATE = """select metric, value, "limit", action from gate_results_all_attempts where {here}
    order by action = 'go', metric"""
_EVAL_SAMPLES = """select text from eval_samples_all_attempts where {here} and length(trim(text)) > 0
    order by seed limit 3"""
_METRICS = """select metric, max(value) filter (generation = 0) as first,
    max(value) filter (generation = {previous}) as previous,
    max(value) filter (generation = {generation} and attempt = {attempt}) as current
    from metrics_all_attempts where subject = 'model' and source = 'all' group by metric order by metric"""


class AttemptCatalog:
    """Queries about one attempt, on a catalog that is opened once."""

    def __init__(self, attempt: Attempt) -> None:
        self._catalog = open_catalog(attempt.run.root, [attempt.run.name])
        self._parameters = {
            "here": f"generation = {attempt.generation} and attempt = {attempt.number}",
            "generation": attempt.generation,
            "attempt": attempt.number,
            "previous": max(0, attempt.generation - 1),
        }

    def query(self, query: str) -> list[Row]:
        """Run a query in which `{here}` stands for the condition that selects the attempt's rows.

        `{generation}`, `{attempt}` and `{previous}` stand for its numbers.
        """
        result = self._catalog.sql(query.format_map(self._parameters))
        return [dict(zip(result.columns, row, strict=True)) for row in result.fetchall()]


def generation_page(attempt: Attempt, action: str, reasons: str, attempts: Sequence[AttemptSummary]) -> str:
    """Return the page of one generation: verdict, gate, dropped records, samples, all metrics, cost.

    It has no charts: Prefect's current interface shows the source of Mermaid charts instead of drawing them.

    Args:
        attempt: Attempt with a verdict.
        action: Verdict of the gate.
        reasons: Reasons of the verdict, or empty.
        attempts: Attempts of the run, for the perplexities of the run.
    """
    perplexities = [summary.perplexity for summary in attempts if summary.perplexity is not None and summary.accepted]
    catalog = AttemptCatalog(attempt)
    return render(
        "generation.md.j2",
        attempt=attempt,
        run=attempt.run.name,
        action=action,
        reasons=reasons,
        recent_perplexities=" → ".join(f"{value:,.1f}" for value in perplexities[-_SHOWN_VALUES:]),
        sparkline=sparkline(perplexities),
        gate=_gate_rows(attempt, catalog),
        metrics=_metric_rows(catalog),
        dropped=[tuple(row.values()) for row in catalog.query(_DROPPED)],
        filter_rate_alerts=[row["reason"] for row in catalog.query(_FILTER_RATE_ALERTS)],
        samples=[row["text"] for row in catalog.query(_EVAL_SAMPLES)],
        costs=_cost_rows(attempt),
        corpus=attempt.folder / "corpus",
    )


def review_summary(attempt: Attempt, action: str, reasons: str) -> str:
    """Return a summary of an attempt for a reviewer: gate limits, and samples with the ids to reject them by."""
    query = (
        f"select id, text from corpus_all_attempts where run = '{attempt.run.name}' "
        f"and source_generation = {attempt.generation}"
    )
    catalog = AttemptCatalog(attempt)
    return render(
        "review_summary.md.j2",
        attempt=attempt,
        action=action,
        reasons=reasons,
        limits=catalog.query(_LIMITS),
        samples=catalog.query(_CORPUS_SAMPLES),
        page_key=f"{artifact_key(attempt)}-generation",
        corpus_command=f'heirloom sql "{query}"',
    ).rstrip("\n")


def sparkline(values: Sequence[float]) -> str:
    """Return numbers as a line of bars from the lowest to the highest, `▁▃█`; NaN and infinities are skipped."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / ((high - low) or 1)
    return "".join(_BARS[round((value - low) * scale)] for value in finite)


def artifact_key(attempt: Attempt) -> str:
    """Return the run's name as the beginning of a key of a Prefect artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", attempt.run.name.lower()).strip("-")


def _gate_rows(attempt: Attempt, catalog: AttemptCatalog) -> list[tuple[str, ...]]:
    """Return metric, value, limit with its direction, whether it is met, and the verdict; broken limits first."""
    directions = {
        limit["metric"]: "at least" if limit.get("at_least") is not None else "at most"
        for limit in attempt.run.recipe()["gate"]["limits"]
    }
    rows: list[tuple[str, ...]] = []
    for row in catalog.query(_GATE):
        limit = f"{directions.get(row['metric'], '')} {_number(row['limit'])}".strip()
        # Words, since not every browser has a font with marks.
        result = "within" if row["action"] == "go" else "BEYOND"
        rows.append((row["metric"], _number(row["value"]), limit, result, row["action"]))
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _metric_rows(catalog: AttemptCatalog) -> list[tuple[str, ...]]:
    return [
        (row["metric"], _number(row["first"]), _number(row["previous"]), _number(row["current"]))
        for row in catalog.query(_METRICS)
    ]


def _cost_rows(attempt: Attempt) -> list[tuple[str, ...]]:
    manifests = [read_manifest(path.parent) for path in sorted(attempt.folder.glob(f"[!.]*/{MANIFEST}"))]
    rows: list[tuple[str, ...]] = []
    for manifest in sorted(manifests, key=lambda manifest: manifest["finished"]):
        facts = manifest["facts"]
        num_tokens = facts.get("tokens", facts.get("generated_tokens", 0)) or 0
        num_bytes = sum(file["bytes"] for file in manifest["files"].values())
        seconds = manifest["finished"] - manifest["started"]
        rows.append(
            (
                manifest["name"],
                f"{manifest['rows']:,}",
                f"{seconds:.1f}",
                f"{num_tokens:,}",
                f"{num_bytes / 2**20:.1f}",
            )
        )
    return rows
