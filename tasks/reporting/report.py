"""The catalog as one page with pictures, in Markdown and as a single HTML file. Reads views, never recomputes."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from heirloom.errors import HeirloomError
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from storage.remote.mirror import upload
from tasks.orchestration.prefect import task
from tasks.reporting.plots import plot_curves, plot_forecast, plot_perplexity_histogram
from tasks.reporting.point_plots import plot_points_by_generation

if TYPE_CHECKING:
    import duckdb


@task
def report(root: Path, runs: Sequence[str], name: str) -> Path:
    """Write `report.md`, `report.html` and their pictures; returns their folder.

    Raises:
        HeirloomError: none of the runs has been measured yet.
    """
    catalog = open_catalog(root, runs)
    curve = catalog.sql(QUERIES["collapse_curve"]).fetchall()
    if not curve:
        raise HeirloomError(f"nothing to report on {', '.join(runs)}: no generation has been measured yet")
    folder = root / "reports" / name
    folder.mkdir(parents=True, exist_ok=True)
    # In the order they were named, so that a loop keeps its colour from report to report.
    curve.sort(key=lambda row: list(runs).index(row[0]))
    plot_curves([(row[0], row[1], row[3], row[4]) for row in curve], folder / "collapse.png")
    foretold = catalog.sql(QUERIES["forecast_vs_measured"]).fetchall()
    if foretold:
        told, measured = (
            [(run, place, metric, values[at]) for run, place, metric, *values in foretold] for at in (0, 1)
        )
        plot_forecast(told, measured, folder / "forecast.png")
    if surprise := catalog.sql(_SURPRISE).fetchall():
        surprise.sort(key=lambda row: list(runs).index(row[0]))
        plot_perplexity_histogram(surprise, folder / "surprise.png")
    drawn = plot_points_by_generation(catalog, folder / "points.png")
    text = "\n\n".join(_sections(catalog, name, bool(surprise), drawn))
    (folder / "report.md").write_text(text + "\n")
    (folder / "report.html").write_text(_page(name, text, folder))
    upload(folder)
    return folder


def _sections(catalog: "duckdb.DuckDBPyConnection", name: str, surprise: bool, drawn: bool) -> list[str]:
    return [
        f"# {name}",
        "What each loop has kept of the human text it began with, generation after generation.",
        _sentences(catalog),
        "![Held-out perplexity, rare words, types and repetition by generation](collapse.png)",
        "## Where it ended",
        _outcome(catalog),
        _REMARKS,
        *(_SURPRISING if surprise else ()),
        *(_DRAWN if drawn else ()),
        "## One opening, continued by every generation",
        _continuations(catalog),
        "## What the gate said",
        _table(
            catalog,
            "select run, generation, action, reason from gate_results where action <> 'go' order by all",
            "No limit was broken.",
        ),
        "## Collapse, by each meaning of the word",
        _table(catalog, QUERIES["collapse_tests"], "Nothing has been compared with generation 0 yet."),
        "## What was foretold",
        "![Forecast and what was measured, by generation](forecast.png)",
        _FORETOLD,
        "## What was dropped, and why",
        _table(catalog, QUERIES["drop_reasons"], "Nothing was dropped."),
        _heavy(catalog),
        "## The closest calls",
        "The pairs least alike of those that were parted. Where they do not say the same, the threshold is too low.",
        _table(catalog, _CALLS, "No record was dropped for its likeness to another."),
        "## How much was human",
        _table(catalog, QUERIES["human_share"], ""),
        "## The runs",
        _table(catalog, "select * from runs order by run", ""),
        "## Ask for more",
        _TRY,
    ]


_TRY = (
    'Every number on this page is a query. One to try: `heirloom sql "select generation, origin, count(*) '
    'from corpus group by all order by all"`'
)
_DRAWN = (
    "## What each generation says",
    "![Points that each generation says, over the human ones](points.png)",
    "In grey what people gave; of pictures, the first that were said.",
)
_CALLS = f"""select run, generation, filter, similarity, id, text[:200] as text, duplicate_of, duplicate_of_text[:200] as duplicate_of_text
    from ({QUERIES["borderline_duplicates"]})"""
_FORETOLD = (
    "Dashed: what mixing and sampling alone do to a vocabulary, told by `heirloom forecast`. What lies between it and the line is what "
    "curation dropped and what the model got wrong: it spreads words that it has seen too seldom, or sharpens what is likely."
)
_REMARKS = (
    "*Perplexity* is on held-out human text: how surprised the model is by language it should know. *Recalibrated* is the same "
    "after the best single temperature: what is left is lost knowledge, not overconfidence. *Rare words* is the share of "
    "words seen 2 to 10 times in the human text that still occur in as many words of what the model says; *types* counts its distinct words; "
    "*repetition* is the share of runs of four words that it had said before. Arrows run from generation 0 to the last."
)


def _sentences(catalog: "duckdb.DuckDBPyConnection") -> str:
    lines = []
    for run, generations, *pairs in catalog.sql(QUERIES["run_outcomes"]).fetchall():
        first, last, plain_first, plain_last, rare_first, rare_last = pairs[:6]
        if not generations:
            lines.append(
                f"- **{run}** learned from human text alone: perplexity {last:,.0f}, and it says {rare_last:.0%} of the rare words."
            )
            continue
        change = (
            f"{last / first:,.1f} times"
            if last > 1.5 * first
            else f"{abs(last / first - 1):.0%} {'above' if last > first else 'below'}"
        )
        lines.append(
            f"- **{run}**, after {generations} generations, is {change} its first perplexity "
            f"({plain_last / plain_first:,.2f} times recalibrated); it says {rare_last:.1%} of the rare words, where it began with {rare_first:.1%}."
        )
    return "\n".join([*lines, *_unseen(catalog)])


_SURPRISE = """select run, generation, exp(nll / greatest(1, tokens)) from scores
    where (subject = 'candidates' or generation = 0) and nll is not null
    qualify bool_or(subject = 'candidates') over (partition by run) order by run, generation"""
"""What was said, and as generation 0 what is held out; of runs that said something."""
_SURPRISING = (
    "## How likely each generation's words are to generation 0",
    "![Histogram of the perplexity of each text under generation 0's model, by generation](surprise.png)",
    "Dashed is held-out human text. Where a loop collapses, mass moves to the left: its texts become what generation 0 held for likely.",
    "What grows on the right are texts that generation 0 would never have said. A mean of the two hides both.",
)
_UNSEEN = """with now as (select *, starts_with(metric, 'perplexity') or starts_with(metric, 'loss') as truth from gate_results
    qualify generation = max(generation) over (partition by run))
select run, string_agg(reason, '; ') filter (not truth and action <> 'go') from now group by run
having count(*) filter (truth) > 0 and count(*) filter (truth and first_generation is not null) = 0
    and count(*) filter (not truth and action <> 'go') > 0 order by run"""
"""Runs whose loss breaks no limit while another metric does."""


def _unseen(catalog: "duckdb.DuckDBPyConnection") -> list[str]:
    return [
        f"- **{run}** would pass by held-out loss alone, and yet it is losing its language: {reasons}."
        for run, reasons in catalog.sql(_UNSEEN).fetchall()
    ]


def _heavy(catalog: "duckdb.DuckDBPyConnection") -> str:
    rows = catalog.sql(f"select run, generation, reason from ({QUERIES['filter_rate_alerts']})").fetchall()
    lines = [f"- **{run}**, generation {generation}: {_cell(reason)}." for run, generation, reason in rows]
    return "\n".join(lines) or "No sieve dropped more of a source than is usual."


def _outcome(catalog: "duckdb.DuckDBPyConnection") -> str:
    lines = [
        "| run | generations | perplexity | recalibrated | rare words | types | repetition |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for run, generations, *pairs in catalog.sql(QUERIES["run_outcomes"]).fetchall():
        cells = [
            arrow(first, last, digits)
            for first, last, digits in zip(pairs[::2], pairs[1::2], (0, 0, 3, 0, 3), strict=True)
        ]
        lines.append(f"| {run} | {generations} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arrow(first: float, last: float, digits: int) -> str:
    """`147 → 14,957`: where a number began and where it ended."""
    return f"{first:,.{digits}f} → {last:,.{digits}f}"


def _continuations(catalog: "duckdb.DuckDBPyConnection") -> str:
    rows = catalog.sql(QUERIES["showcase_completions"]).fetchall()
    if not rows:
        return "No opening was given: `evaluate.showcase_prompt`."
    said = {(run, generation): text for run, generation, _, text in rows}
    runs = [run for run in dict.fromkeys(row[0] for row in rows) if (run, 1) in said] or list(
        dict.fromkeys(row[0] for row in rows)
    )
    lines = ["| generation | " + " | ".join(runs) + " |", "|--:|" + "---|" * len(runs)]
    for generation in sorted({generation for _, generation in said}):
        cells = [_cell(said.get((run, generation), "")) for run in runs]
        lines.append(f"| {generation} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _table(catalog: "duckdb.DuckDBPyConnection", query: str, empty: str) -> str:
    found = catalog.sql(query)
    rows = found.fetchall()
    if not rows:
        return empty
    head = "| " + " | ".join(found.columns) + " |\n|" + "---|" * len(found.columns)
    return "\n".join([head, *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)])


def _cell(value: Any) -> str:  # noqa: ANN401  (whatever a query returns)
    if isinstance(value, float):
        return f"{value:.3f}"
    text = (
        " ".join(str("" if value is None else value).split())
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("`", "\\`")
    )
    return text[:180] + "…" if len(text) > 180 else text


def _page(name: str, text: str, folder: Path) -> str:
    body = MarkdownIt("commonmark").enable("table").render(text)
    for picture in sorted(folder.glob("*.png")):
        drawn = base64.b64encode(picture.read_bytes()).decode()
        body = body.replace(f'src="{picture.name}"', f'src="data:image/png;base64,{drawn}"')
    return _HTML.format(title=name, body=body)


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.55 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 68rem; margin: 2.5rem auto; padding: 0 1.25rem }}
h1 {{ font-size: 2rem; margin-bottom: .25rem }} h2 {{ margin-top: 2.5rem; font-size: 1.25rem }}
img {{ max-width: 100%; height: auto }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; margin: .75rem 0 }}
th, td {{ padding: .4rem .6rem; border-bottom: 1px solid #e4e7eb; text-align: left; vertical-align: top }}
th {{ color: #52606d; font-weight: 600 }} code {{ background: #f5f7fa; padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere }}
</style></head><body>
{body}
</body></html>
"""
