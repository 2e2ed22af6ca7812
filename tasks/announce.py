"""What a Prefect server is told of a finished generation: an event to act on, a page to read, assets to trace.

Told while someone can look; what is finished is said by the manifests alone.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from storage.artifact import MANIFEST, read_manifest
from storage.catalog import open_catalog
from storage.run import Attempt
from storage.standing import Turn, noted, turns
from tasks.coat import seen
from tasks.progress import logger

_Ask = Callable[[str], list[tuple[Any, ...]]]

FINISHED = "heirloom.generation.finished"
_ASSETS = ("corpus", "model")
_BARS = "▁▂▃▄▅▆▇█"
_STYLE = (
    '%%{init: {"theme": "base", "themeVariables": {"xyChart": '
    '{"backgroundColor": "#ffffff", "plotColorPalette": "#2563eb, #dc2626"}}}}%%'
)


def announce(attempt: Attempt, action: str, reasons: str = "") -> None:
    """Tell the server that is set, once, of a generation that has its verdict; without a server, nothing.

    A server that cannot be reached is no reason to end a run: what it would have been told is in the store.
    """
    if not seen() or _told(attempt):
        return
    try:
        _announce(attempt, action, reasons)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("%s · the server was not told: %s", attempt, error)


def _told(attempt: Attempt) -> bool:
    # A run that was suspended for a review comes by here again.
    return bool(noted(attempt, "accepted") or noted(attempt, "asked"))


def _announce(attempt: Attempt, action: str, reasons: str) -> None:
    lived = turns(attempt.run)
    (turn,) = (one for one in lived if (one.generation, one.attempt) == (attempt.generation, attempt.number))
    slug = _slug(attempt)
    verdicts = _asking(attempt)(
        'select metric, value, "limit", action, reason from verdicts_all where {here} order by metric'
    )
    summary = f"{attempt}: {action}" + (f", {reasons}" if reasons else "")
    create_markdown_artifact(page(attempt, action, reasons, lived), f"{slug}-generation", summary)
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


def label(**told: str) -> None:
    """Tag the flow run that is going on, as `policy:anchor`; a tag of the same kind is replaced."""
    context = FlowRunContext.get()
    if not seen() or context is None or context.flow_run is None:
        return
    kept = [tag for tag in context.flow_run.tags if tag.partition(":")[0] not in told]
    context.flow_run.tags = kept + [f"{kind}:{value}" for kind, value in told.items()]
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=context.flow_run.tags)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the server was not told %s: %s", told, error)


def page(attempt: Attempt, action: str, reasons: str, lived: Sequence[Turn]) -> str:
    """One generation for a reader: verdict, metrics, what was kept, what it says, what it cost. In Markdown."""
    name, ask = attempt.run.name, _asking(attempt)
    perplexities = [one.perplexity for one in lived if one.perplexity is not None and one.accepted]
    return "\n\n".join(
        part
        for part in (
            f"# {attempt}: {action}",
            reasons,
            f"Held-out perplexity {spark(perplexities)} {perplexities[-1]:,.1f}" if perplexities else "",
            _chart(perplexities),
            "## Metrics",
            _metrics(ask),
            "## Kept and dropped",
            _table(ask(_DROPPED), ("sieve", "reason", "records")) or "Nothing was dropped.",
            "\n".join(f"- {reason}" for (reason,) in ask(_HEAVY)),
            "## What it says",
            "\n\n".join(f"> {' '.join(text.split())[:300]}" for (text,) in ask(_SAMPLES)),
            "## What it cost",
            _cost(attempt),
            f"Corpus `{attempt.folder / 'corpus'}` · more: `heirloom show {name}`, `heirloom report {name}`",
        )
        if part
    )


def brief(attempt: Attempt, action: str, reasons: str) -> str:
    """What a person should have seen before deciding about an attempt, with ids to name. In Markdown."""
    ask = _asking(attempt)
    heard, held = ask(_HEARD), ask(_HELD)
    told = [
        f"**{attempt}: {action}**{' · ' + reasons if reasons else ''}",
        "\n".join(f"- {metric}: {value:,.4g}, {said} {limit:,.4g}" for metric, value, said, limit in held),
        "Of what it says, and was learned from:",
        "\n".join(f"- `{one}` {_plain(text)}" for one, text in heard),
        f"All of it: the artifact `{_slug(attempt)}-generation`, and `heirloom sql \"select id, text from corpus_all where run = '{attempt.run.name}' and born = {attempt.generation}\"`",
    ]
    return "\n\n".join(part for part in told if part)


def spark(values: Sequence[float]) -> str:
    """Numbers as a line of bars, the highest full: `▁▃█`; empty where there is no number to draw."""
    drawn = [value for value in values if math.isfinite(value)]
    low, high = min(drawn, default=0.0), max(drawn, default=0.0)
    return "".join(_BARS[round((value - low) / ((high - low) or 1) * (len(_BARS) - 1))] for value in drawn)


_DROPPED = """select stage, reason, count(*) from decisions_all where not kept and {here} group by all
    union all select 'kept', '', (select count(*) from candidates_all where {here})
        - (select count(distinct id) from decisions_all where not kept and {here})
    where exists (select 1 from candidates_all where {here}) order by 3 desc, 1, 2"""
_HEAVY = "select unnest(heavy_tolls).reason from generations_all where {here}"
_HEARD = "select id, text from corpus_all where {here} and origin = 'synthetic' and born = {generation} order by hash(id) limit 4"
_HELD = """select metric, value, if(action = 'go', 'within', 'beyond') || ' the limit of', "limit" from verdicts_all
    where {here} and value is not null and "limit" is not null order by metric"""
_SAMPLES = "select text from voice_all where {here} and length(trim(text)) > 0 order by seed limit 3"
_METRICS = """select metric, max(value) filter (generation = 0), max(value) filter (generation = {before}),
    max(value) filter (generation = {generation} and attempt = {attempt})
    from metrics_all where subject = 'model' and source = 'all' group by metric order by metric"""


def _plain(text: str) -> str:
    return re.sub(r"([*_`<>\[\]\\])", r"\\\1", " ".join(text.split())[:120])


def _slug(attempt: Attempt) -> str:
    return re.sub(r"[^a-z0-9]+", "-", attempt.run.name.lower()).strip("-")


def _asking(attempt: Attempt) -> _Ask:
    """Questions about an attempt, to the store as it is now."""
    here = f"generation = {attempt.generation} and attempt = {attempt.number}"
    names = {"generation": attempt.generation, "attempt": attempt.number, "before": max(0, attempt.generation - 1)}
    catalog = open_catalog(attempt.run.root, [attempt.run.name])
    return lambda query: catalog.sql(query.format(here=here, **names)).fetchall()


def _metrics(ask: _Ask) -> str:
    numbers = [(name, *(f"{value:,.4g}" if value is not None else "" for value in row)) for name, *row in ask(_METRICS)]
    return _table(numbers, ("metric", "generation 0", "the one before", "now"))


def _cost(attempt: Attempt) -> str:
    made = [read_manifest(path.parent) for path in sorted(attempt.folder.glob(f"[!.]*/{MANIFEST}"))]
    rows = [
        (
            one["name"],
            f"{one['rows']:,}",
            f"{one['finished'] - one['started']:.1f}",
            f"{one['facts'].get('tokens', one['facts'].get('generated_tokens', 0)) or 0:,}",
            f"{sum(file['bytes'] for file in one['files'].values()) / 2**20:.1f}",
        )
        for one in sorted(made, key=lambda one: one["finished"])
    ]
    return _table(rows, ("made", "rows", "seconds", "tokens", "MiB"))


def _chart(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    numbers = f"[{', '.join(f'{value:.4g}' for value in values)}]"
    axis = f'x-axis "generation" [{", ".join(map(str, range(len(values))))}]'
    return f'```mermaid\n{_STYLE}\nxychart-beta\n  title "Held-out perplexity"\n  {axis}\n  line {numbers}\n```'


def _table(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _payload(turn: Turn, action: str, reasons: str) -> dict[str, Any]:
    told = {
        "verdict": action,
        "reasons": reasons,
        "generation": turn.generation,
        "attempt": turn.attempt,
        "perplexity": turn.perplexity,
        "corpus": turn.corpus,
        "human_fraction": turn.human_fraction,
        "seconds": round(turn.seconds, 1),
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
