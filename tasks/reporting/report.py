"""Report on runs as one page with plots, in Markdown and as a self-contained HTML file.

The numbers come from views and named queries of the catalog; nothing is recomputed.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from markdown_it import MarkdownIt
from markupsafe import Markup

from heirloom.errors import HeirloomError
from storage.files import write_atomically
from storage.names import check_name
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from storage.remote.mirror import upload
from tasks.orchestration.prefect import task
from tasks.reporting.plots import MetricPoint, TextPerplexity, plot_curves, plot_forecast, plot_perplexity_histogram
from tasks.reporting.point_plots import plot_points_by_generation
from tasks.reporting.templating import render

if TYPE_CHECKING:
    import duckdb

Row: TypeAlias = dict[str, Any]
"""A row of a query result, by column."""


@dataclass(frozen=True, kw_only=True)
class QueryTable:
    """A query result for a table of the page."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


_GATE = "select run, generation, action, reason from gate_results where action <> 'go' order by all"
_COSTS = """select run, generation, round(generate_seconds, 1) as generate, round(train_seconds, 1) as train,
    round(measure_seconds, 1) as measure, round(seconds, 1) as all_stages,
    round(100 * measure_seconds / nullif(generate_seconds, 0)) as measure_percent_of_generate
    from generations order by all"""
_RUNS = "select * from runs order by run"
_FILTER_RATE_ALERTS = f"select run, generation, reason from ({QUERIES['filter_rate_alerts']})"
_BORDERLINE_DUPLICATES = f"""select run, generation, filter, similarity, id, text[:200] as text, duplicate_of,
    duplicate_of_text[:200] as duplicate_of_text from ({QUERIES["borderline_duplicates"]})"""

# Candidates of each generation, and as generation 0 the held-out texts; only of runs that generated something.
_PERPLEXITIES = """select run, generation, exp(nll / greatest(1, tokens)) from scores
    where (subject = 'candidates' or generation = 0) and nll is not null
    qualify bool_or(subject = 'candidates') over (partition by run) order by run, generation"""

# Runs with limits on held-out loss that hold, while a limit on another metric is violated.
_UNDETECTED_BY_LOSS = """with latest as (
        select *, starts_with(metric, 'perplexity') or starts_with(metric, 'loss') as is_loss from gate_results
        qualify generation = max(generation) over (partition by run))
    select run, string_agg(reason, '; ') filter (not is_loss and action <> 'go') as reasons from latest group by run
    having count(*) filter (is_loss) > 0 and count(*) filter (is_loss and first_generation is not null) = 0
        and count(*) filter (not is_loss and action <> 'go') > 0 order by run"""


@task
def report(root: Path, runs: Sequence[str], name: str) -> Path:
    """Write `report.md`, `report.html` and their plots, and return their folder.

    Args:
        root: Store.
        runs: Runs to report on; their order fixes their colors.
        name: Name of the report.

    Raises:
        HeirloomError: None of the runs has metrics, or the name cannot be one of a folder.
    """
    check_name(name, "a report")
    catalog = open_catalog(root, runs)
    if not catalog.sql(QUERIES["collapse_curve"]).fetchall():
        raise HeirloomError(
            f"Nothing to report: no generation of {', '.join(runs)} has metrics. Run at least one generation first."
        )
    folder = root / "reports" / name
    folder.mkdir(parents=True, exist_ok=True)
    page = render("report.md.j2", name=name, **_plot(catalog, runs, folder), **_query(catalog, runs))
    write_atomically(folder / "report.md", page)
    write_atomically(folder / "report.html", _to_html(name, page, folder))
    upload(folder)
    return folder


def showcase_table(catalog: "duckdb.DuckDBPyConnection", runs: Sequence[str]) -> QueryTable:
    """Return the completions of the showcase prompt: a row for each generation, a column for each run in order."""
    texts = {(row["run"], row["generation"]): row["text"] for row in _rows(catalog, QUERIES["showcase_completions"])}
    known = {run for run, _ in texts}
    with_texts = [run for run in runs if run in known]
    # Runs of generation 0 alone are left out beside longer ones.
    shown = [run for run in with_texts if (run, 1) in texts] or with_texts
    generations = sorted({generation for _, generation in texts})
    return QueryTable(
        columns=["generation", *shown],
        rows=[[generation, *(texts.get((run, generation), "") for run in shown)] for generation in generations],
    )


def _plot(catalog: "duckdb.DuckDBPyConnection", runs: Sequence[str], folder: Path) -> dict[str, bool]:
    """Write the plots, and return which of the optional ones exist."""
    order = {run: position for position, run in enumerate(runs)}
    curves = [
        MetricPoint(run=row["run"], generation=row["generation"], metric=row["metric"], value=row["value"])
        for row in _rows(catalog, QUERIES["collapse_curve"])
    ]
    plot_curves(sorted(curves, key=lambda point: order[point.run]), folder / "collapse.png")
    forecast: list[MetricPoint] = []
    measured: list[MetricPoint] = []
    for row in _rows(catalog, QUERIES["forecast_vs_measured"]):
        for points, column in ((forecast, "forecast"), (measured, "measured")):
            points.append(MetricPoint(row["run"], row["generation"], row["metric"], row[column]))
    if forecast:
        plot_forecast(forecast, measured, folder / "forecast.png")
    perplexities = [TextPerplexity(*row) for row in catalog.sql(_PERPLEXITIES).fetchall()]
    if perplexities:
        perplexities.sort(key=lambda text: order[text.run])
        plot_perplexity_histogram(perplexities, folder / "perplexity_histogram.png")
    return {
        "has_forecast": bool(forecast),
        "has_perplexity_histogram": bool(perplexities),
        "has_points": plot_points_by_generation(catalog, folder / "points.png"),
    }


def _query(catalog: "duckdb.DuckDBPyConnection", runs: Sequence[str]) -> dict[str, object]:
    """Return the values of the page's template that come from queries."""
    return {
        "outcomes": _rows(catalog, QUERIES["run_outcomes"]),
        "undetected_by_loss": _rows(catalog, _UNDETECTED_BY_LOSS),
        "filter_rate_alerts": _rows(catalog, _FILTER_RATE_ALERTS),
        "continuations": showcase_table(catalog, runs),
        "gate": _table(catalog, _GATE),
        "collapse_tests": _table(catalog, QUERIES["collapse_tests"]),
        "drop_reasons": _table(catalog, QUERIES["drop_reasons"]),
        "borderline_duplicates": _table(catalog, _BORDERLINE_DUPLICATES),
        "human_share": _table(catalog, QUERIES["human_share"]),
        "costs": _table(catalog, _COSTS),
        "runs": _table(catalog, _RUNS),
    }


def _table(catalog: "duckdb.DuckDBPyConnection", query: str) -> QueryTable:
    relation = catalog.sql(query)
    return QueryTable(columns=relation.columns, rows=relation.fetchall())


def _rows(catalog: "duckdb.DuckDBPyConnection", query: str) -> list[Row]:
    table = _table(catalog, query)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _to_html(title: str, page: str, folder: Path) -> str:
    """Convert the Markdown page to HTML with its plots inside."""
    # `html: False` escapes any markup that is still in the page.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(page)
    for picture in sorted(folder.glob("*.png")):
        encoded = base64.b64encode(picture.read_bytes()).decode()
        body = body.replace(f'src="{picture.name}"', f'src="data:image/png;base64,{encoded}"')
    return render("report.html.j2", title=title, body=Markup(body))  # noqa: S704  (the renderer's own HTML)
