"""The command that runs filters on any corpus, without a loop, a store, Prefect or torch."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.help import command

if TYPE_CHECKING:
    from tasks.curation.standalone import CurateFacts, DropCount, DuplicateExample

app = typer.Typer()

_DEFAULT_FILTERS = ("exact", "quality", "minhash")
_MAX_DROP_RATE = 0.5
"""A filter that drops a larger fraction of its input gets a warning."""
_EXAMPLES_QUERY = (
    "python -c 'import duckdb; "
    'duckdb.sql("select score, id, duplicate_of from read_parquet($${out}/decisions.parquet$$) '
    "where duplicate_of is not null order by score, id limit 20\").show()'"
)


@command(
    app,
    panel="Data",
    example="heirloom curate new.jsonl --out curated\n"
    "heirloom curate new.jsonl --reference old.parquet --filter pii --out curated",
)
def curate(
    source: Annotated[str, typer.Argument(help="A source, as for `heirloom ingest`.")],
    out: Annotated[Path, typer.Option(help="Folder for kept.parquet and decisions.parquet.")],
    reference: Annotated[
        list[str] | None,
        typer.Option(help="Existing texts; near-duplicates of them are dropped. May be repeated."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help=f"Filter to run besides {', '.join(_DEFAULT_FILTERS)}: language, pii, semantic, diversity, "
            "decontamination, importance_resampling, or your own as package.module:name or file.py:name. May be "
            "repeated.",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one key of [curate] over its default, as minhash.threshold=0.8, or of reading, as "
            "csv_delimiter=';'. May be repeated.",
        ),
    ] = None,
) -> None:
    """Filter and deduplicate any corpus, and record a decision per text and filter."""
    from curation.pipeline import CurateSettings, order_filters
    from curation.splitting import ReadSettings
    from flows.config.loading import apply_overrides, validate_settings
    from flows.terminal.console import console
    from flows.terminal.progress import ProgressPanel
    from tasks.curation.standalone import curate_corpus
    from tasks.ingestion.read import text_columns

    names = order_filters([*_DEFAULT_FILTERS, *(filters or [])])

    class CommandSettings(CurateSettings, ReadSettings):
        """Every key that `--set` accepts."""

    values = apply_overrides({"filters": names}, changes or [], CommandSettings)
    reading = {name: values.pop(name) for name in ReadSettings.model_fields if name in values}
    columns = text_columns(text_column, validate_settings(ReadSettings, reading))
    settings = validate_settings(CurateSettings, values)
    started = time.monotonic()
    was_finished = (out / "_manifest.json").exists()
    with ProgressPanel(console, {}):
        facts = curate_corpus(source, reference or [], columns, out, settings)
    _print_result(facts, out, "finished before" if was_finished else f"{time.monotonic() - started:.1f} s")


def _print_result(facts: "CurateFacts", out: Path, duration: str) -> None:
    from rich.markup import escape

    from flows.terminal.console import console, table, warn_of_ignored_differences

    drops = table("filter", "reason", "dropped", "of", numbers=("dropped", "of"))
    for row in facts["dropped"]:
        drops.add_row(row["filter"], escape(row["reason"]), f"{row['dropped']:,}", f"{row['of']:,}")
    console.print(drops)
    filters_with_examples = list(dict.fromkeys(pair["filter"] for pair in facts["examples"]))
    for name in filters_with_examples:
        _print_examples(name, [pair for pair in facts["examples"] if pair["filter"] == name])
    for name, dropped, total in _high_drop_rates(facts["dropped"]):
        look_at = "examples" if name in filters_with_examples else "reasons"
        console.print(
            f"[yellow]warning[/] {name} dropped {dropped:,} of {total:,} texts. "
            f"Check its {look_at} above before you use the result."
        )
    if truncated := facts["truncated"]:
        console.print(
            f"[yellow]warning[/] {truncated:,} texts are longer than the encoder reads, and their vectors represent "
            "only their beginnings. Set curate.embedding.long_texts = 'chunk' to embed all of each text.",
            soft_wrap=True,
        )
    warn_of_ignored_differences(console, facts.get("equal_shingles", 0), "minhash.normalization")
    for alert in facts["filter_rate_alerts"]:
        console.print(f"[yellow]warning[/] {escape(alert['reason'])}", soft_wrap=True)
    console.print(
        f"\n[bold]{facts['kept']:,} of {facts['texts']:,} texts kept[/] in {out}/kept.parquet, {duration}",
        soft_wrap=True,
    )
    renamed = [f"{old} as {new}" for new, old in facts.get("other_columns", {}).items() if new != old]
    if renamed:
        console.print(f"columns of the source under another name: {', '.join(renamed)}", markup=False, soft_wrap=True)
    if facts.get("unmasked_columns"):
        console.print(
            f"[yellow]warning[/] left out, since personal data in them cannot be masked: "
            f"{escape(', '.join(facts['unmasked_columns']))}",
            soft_wrap=True,
        )
    if facts["masked"]:
        console.print(f"personal data is masked in {facts['masked']:,} of them")
    console.print(f"more examples: {_EXAMPLES_QUERY.format(out=out)}", markup=False, soft_wrap=True)


def _print_examples(name: str, pairs: list["DuplicateExample"]) -> None:
    from flows.terminal.console import console

    console.print(f"\n[dim]{name}: its least similar duplicates, each above the text that is kept[/]")
    for pair in pairs:
        console.print(
            f"{pair['similarity']:<5.3g}  {pair['id']} duplicates {pair['duplicate_of']}", markup=False, soft_wrap=True
        )
        for text in (pair["text"], pair["duplicate_of_text"]):
            console.print(f"       {text}", markup=False, overflow="ellipsis", no_wrap=True)


def _high_drop_rates(rows: list["DropCount"]) -> list[tuple[str, int, int]]:
    """Return name, dropped texts and input texts of each filter that dropped more than half of its input."""
    high = []
    for name in dict.fromkeys(row["filter"] for row in rows):
        own = [row for row in rows if row["filter"] == name]
        dropped, total = sum(row["dropped"] for row in own), own[0]["of"]
        if dropped > _MAX_DROP_RATE * total:
            high.append((name, dropped, total))
    return high
