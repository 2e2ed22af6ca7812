"""Commands that take in human text and evaluation sets."""

from typing import Annotated

import typer

from flows.cli.options import SiteFile, Store
from flows.cli.progress_scope import _with_progress
from flows.config.loading import load_site
from flows.terminal.console import console

app = typer.Typer()


@app.command(epilog="Example: `heirloom ingest letters.jsonl --name letters --text-column body`")
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="files, folders or patterns (JSONL, CSV, TSV, Parquet, text, Markdown; also .gz, .zst), hf:NAME, or python-docs"
        ),
    ],
    name: Annotated[str, typer.Option(help="name of the human text")],
    text_column: Annotated[str, typer.Option(help="column that holds the text, or a conversation")] = "text",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="change one ingest setting, as key=value; may be repeated")
    ] = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Take in human text: drop what repeats, hold a part out for ever, keep the rest as the reserve."""
    from curation.splitting import IngestSettings
    from flows.config.loading import apply_overrides

    chosen = IngestSettings.model_validate(apply_overrides({"text_column": text_column}, settings or []))
    where = load_site(site, store)
    with _with_progress([]):
        from flows.ingest import ingest as flow
        from flows.ingest import reasons

        counts = flow(sources, name, chosen, where)
    console.print(
        f"[bold]{name}[/]: {counts['human_train']:,} records in the reserve, {counts['human_heldout']:,} held out, {counts['rejected_documents']:,} set aside"
    )
    for reason, count in reasons(where, name).items():
        console.print(f"  {count:>12,} {reason}", markup=False)
    console.print(
        'why: heirloom sql "select filter, reason, count(*) from rejected_documents group by all"', markup=False
    )


@app.command(epilog="Example: `heirloom add-eval-set exam.jsonl --dataset letters --name exam`")
def add_eval_set(
    sources: Annotated[
        list[str], typer.Argument(help="files or folders (JSONL, CSV, TSV, Parquet, text, Markdown), or python-docs")
    ],
    dataset: Annotated[str, typer.Option(help="name of the human text that it is kept out of")],
    name: Annotated[str, typer.Option(help="name of the evaluation set")],
    text_column: Annotated[str, typer.Option(help="column that holds the text")] = "text",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="change one setting, as key=value; may be repeated")
    ] = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Add an evaluation set: kept out of all that comes, and held against all that is there."""
    from curation.splitting import EvalSetSettings
    from flows.config.loading import apply_overrides

    chosen, where = (
        EvalSetSettings.model_validate(apply_overrides({"text_column": text_column}, settings or [])),
        load_site(site, store),
    )
    with _with_progress([]):
        from flows.ingest import add_eval_set as flow
        from flows.terminal.run_summary import print_eval_exposure

        counts = flow(sources, dataset, name, chosen, where)
    console.print(
        f"[bold]{name}[/]: {counts['records']:,} records withheld, {counts['rejected_documents']:,} set aside"
    )
    print_eval_exposure(console, where.store, dataset, name)
