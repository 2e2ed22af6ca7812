"""Markdown page of one generation for the Prefect UI, and the summary that a reviewer reads."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from storage.artifacts.artifact import MANIFEST, read_manifest
from storage.query.catalog import open_catalog
from storage.runs.run import Attempt
from storage.runs.status import AttemptSummary

_BARS = "▁▂▃▄▅▆▇█"


_STYLE = (
    '%%{init: {"theme": "base", "themeVariables": {"xyChart": '
    '{"backgroundColor": "#ffffff", "plotColorPalette": "#2563eb, #dc2626"}}}}%%'
)


_Ask = Callable[[str], list[tuple[Any, ...]]]


def generation_page(attempt: Attempt, action: str, reasons: str, attempts: Sequence[AttemptSummary]) -> str:
    """One generation for a reader: verdict, metrics, what was kept, what it says, what it cost. In Markdown."""
    name, ask = attempt.run.name, _asking(attempt)
    perplexities = [one.perplexity for one in attempts if one.perplexity is not None and one.accepted]
    return "\n\n".join(
        part
        for part in (
            f"# {attempt}: {action}",
            reasons,
            f"Held-out perplexity {sparkline(perplexities)} {perplexities[-1]:,.1f}" if perplexities else "",
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


def review_summary(attempt: Attempt, action: str, reasons: str) -> str:
    """What a person should have seen before deciding about an attempt, with ids to name. In Markdown."""
    ask = _asking(attempt)
    heard, held = ask(_HEARD), ask(_HELD)
    told = [
        f"**{attempt}: {action}**{' · ' + reasons if reasons else ''}",
        "\n".join(f"- {metric}: {value:,.4g}, {said} {limit:,.4g}" for metric, value, said, limit in held),
        "Of what it says, and was learned from:",
        "\n".join(f"- `{one}` {_plain(text)}" for one, text in heard),
        f"All of it: the artifact `{_slug(attempt)}-generation`, and `heirloom sql \"select id, text from corpus_all_attempts where run = '{attempt.run.name}' and source_generation = {attempt.generation}\"`",
    ]
    return "\n\n".join(part for part in told if part)


def sparkline(values: Sequence[float]) -> str:
    """Numbers as a line of bars, the highest full: `▁▃█`; empty where there is no number to draw."""
    drawn = [value for value in values if math.isfinite(value)]
    low, high = min(drawn, default=0.0), max(drawn, default=0.0)
    return "".join(_BARS[round((value - low) / ((high - low) or 1) * (len(_BARS) - 1))] for value in drawn)


_DROPPED = """select filter, reason, count(*) from decisions_all_attempts where not kept and {here} group by all
    union all select 'kept', '', (select count(*) from candidates_all_attempts where {here})
        - (select count(distinct id) from decisions_all_attempts where not kept and {here})
    where exists (select 1 from candidates_all_attempts where {here}) order by 3 desc, 1, 2"""


_HEAVY = "select unnest(filter_rate_alerts).reason from generations_all_attempts where {here}"


_HEARD = "select id, text from corpus_all_attempts where {here} and origin = 'synthetic' and source_generation = {generation} order by hash(id) limit 4"


_HELD = """select metric, value, if(action = 'go', 'within', 'beyond') || ' the limit of', "limit" from gate_results_all_attempts
    where {here} and value is not null and "limit" is not null order by metric"""


_SAMPLES = "select text from eval_samples_all_attempts where {here} and length(trim(text)) > 0 order by seed limit 3"


_METRICS = """select metric, max(value) filter (generation = 0), max(value) filter (generation = {before}),
    max(value) filter (generation = {generation} and attempt = {attempt})
    from metrics_all_attempts where subject = 'model' and source = 'all' group by metric order by metric"""


def _plain(text: str) -> str:
    return re.sub(r"([*_`<>\[\]\\])", r"\\\1", " ".join(text.split())[:120])


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


def _slug(attempt: Attempt) -> str:
    return re.sub(r"[^a-z0-9]+", "-", attempt.run.name.lower()).strip("-")
