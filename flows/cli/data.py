"""Commands that ingest human text and evaluation sets."""

from typing import Annotated

import typer

from flows.cli.help import command
from flows.cli.options import SiteFile, Store
from heirloom.commands import suggest

app = typer.Typer()

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders or patterns (JSONL, CSV, TSV, Parquet, text, Markdown; also .gz and .zst), hf:NAME, or "
        "python-docs."
    ),
]

SettingChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one ingest setting (docs/recipe.md); may be repeated."),
]


@command(app, panel="Data", example="heirloom ingest letters.jsonl --name letters --text-column body")
def ingest(
    sources: Sources,
    name: Annotated[str, typer.Option(help="Name of the dataset.")],
    text_column: Annotated[str, typer.Option(help="Column with the text, or with a list of messages.")] = "text",
    settings: SettingChanges = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Ingest human text: deduplicate it and split it into training and held-out sets."""
    from curation.splitting import IngestSettings
    from flows.config.loading import apply_overrides, load_site, validate_settings
    from flows.terminal.console import console, warn_of_ignored_differences
    from flows.terminal.progress import ingest_session

    chosen = validate_settings(
        IngestSettings, apply_overrides({"text_column": text_column}, settings or [], IngestSettings)
    )
    chosen_site = load_site(site, store)
    with ingest_session():
        from flows.ingest import (
            conversation_shapes,
            equal_shingles,
            long_texts,
            num_documents,
            rejection_reasons,
            unread_columns,
        )
        from flows.ingest import ingest as ingest_flow
        from tasks.ingestion.split import LONG_TEXT_CHARS

        counts = ingest_flow(sources, name, chosen, chosen_site)
    console.print(
        f"[bold]{name}[/]: {counts['human_train']:,} records for training, {counts['human_heldout']:,} held out, "
        f"{counts['rejected_documents']:,} rejected",
        soft_wrap=True,
    )
    console.print(f"  {num_documents(chosen_site, name):>12,} documents read", markup=False)
    num_long, longest = long_texts(chosen_site, name)
    if num_long and chosen.passage_length_chars is None:
        console.print(
            f"  {num_long:>12,} records longer than {LONG_TEXT_CHARS:,} characters (longest: {longest:,}). A model may "
            "read only their beginning; split documents with --set passage_length_chars=[80,2000]",
            markup=False,
            soft_wrap=True,
        )
    for shape, count in conversation_shapes(chosen_site, name).items():
        console.print(f"  {count:>12,} documents read as {shape}", markup=False, soft_wrap=True)
    for reason, count in rejection_reasons(chosen_site, name).items():
        console.print(f"  {count:>12,} {reason}", markup=False, soft_wrap=True)
    if chosen.dedup.minhash.normalization == "text":
        warn_of_ignored_differences(console, equal_shingles(chosen_site, name), "dedup.minhash.normalization")
    rows_by_column, num_columns = unread_columns(chosen_site, name)
    for column, count in rows_by_column.items():
        console.print(f"  {count:>12,} rows with column {column!r}, which was not read", markup=False, soft_wrap=True)
    if num_columns > len(rows_by_column):
        console.print(f"  {num_columns - len(rows_by_column):,} more columns were not read", markup=False)
    console.print(
        "Details: " + suggest("sql", "select filter, reason, count(*) from rejected_documents group by all"),
        markup=False,
        soft_wrap=True,
    )


@command(app, panel="Data", example="heirloom add-eval-set exam.jsonl --dataset letters --name exam")
def add_eval_set(
    sources: Sources,
    dataset: Annotated[str, typer.Option(help="Name of the dataset that it belongs to.")],
    name: Annotated[str, typer.Option(help="Name of the evaluation set.")],
    text_column: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    settings: SettingChanges = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Add an evaluation set, and protect it.

    Later generations exclude it from prompts and corpora, and existing runs are checked for overlap with it.
    """
    from curation.splitting import EvalSetSettings
    from flows.config.loading import apply_overrides, load_site, validate_settings
    from flows.terminal.console import console
    from flows.terminal.progress import ingest_session

    chosen = validate_settings(
        EvalSetSettings, apply_overrides({"text_column": text_column}, settings or [], EvalSetSettings)
    )
    chosen_site = load_site(site, store)
    with ingest_session():
        from flows.ingest import add_eval_set as add_eval_set_flow
        from flows.terminal.run_summary import print_eval_exposure

        counts = add_eval_set_flow(sources, dataset, name, chosen, chosen_site)
    console.print(
        f"[bold]{name}[/]: {counts['records']:,} records protected, {counts['rejected_documents']:,} rejected"
    )
    print_eval_exposure(console, chosen_site.store, dataset, name)
