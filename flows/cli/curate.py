"""The command that runs the sieves on any corpus: no loop, no store, no Prefect, and no torch where none is asked for."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.terminal.console import console, table

app = typer.Typer()

_SIEVES = ("exact", "quality", "minhash")
_ALARM = 0.5
"""Share of what one sieve saw above which its loss is pointed at."""
_QUERY = (
    "python -c 'import duckdb; duckdb.sql(\"select score, id, duplicate_of from read_parquet($${out}/decisions.parquet$$) "
    "where duplicate_of is not null order by score, id limit 20\").show()'"
)


@app.command(epilog="Example: `heirloom curate new.jsonl --reference old.parquet --out curated`")
def curate(
    source: Annotated[str, typer.Argument(help="what `heirloom ingest` reads: a file, folder, pattern or data set")],
    out: Annotated[Path, typer.Option(help="folder for kept.parquet and decisions.parquet; made whole or not at all")],
    reference: Annotated[
        list[str] | None, typer.Option(help="texts that are known already: what repeats them goes; may be repeated")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="one more filter: language, pii, semantic, diversity, decontamination, importance_resampling, or your own "
            "as package.module:name or file.py:name; may be repeated",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="column that holds the text")] = "text",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="change one value of [curate], as minhash.threshold=0.8; may be repeated"),
    ] = None,
) -> None:
    """Drop repeated and faulty texts from any corpus, and say of each why; needs no run, no GPU and no torch."""
    from curation.pipeline import CurateSettings, order_filters
    from flows.config.loading import apply_overrides
    from flows.terminal.progress import ProgressPanel
    from tasks.curation.standalone import curate_corpus

    names = order_filters([*_SIEVES, *(filters or [])])
    settings = CurateSettings.model_validate(apply_overrides({"filters": names}, changes or []))
    began, there = time.monotonic(), (out / "_manifest.json").exists()
    with ProgressPanel(console, {}):
        facts = curate_corpus(source, reference or [], text_column, out, settings)
    _tell(facts, out, "finished before" if there else f"{time.monotonic() - began:.1f} s")


def _tell(facts: dict[str, Any], out: Path, took: str) -> None:
    tolls = table("sieve", "why", "dropped", "of", numbers=("dropped", "of"))
    for line in facts["dropped"]:
        tolls.add_row(line["filter"], escape(line["reason"]), f"{line['dropped']:,}", f"{line['of']:,}")
    console.print(tolls)
    shown = list(dict.fromkeys(pair["filter"] for pair in facts["examples"]))
    for stage in shown:
        console.print(f"\n[dim]{stage}: the least alike of what it dropped, each above what stays[/]")
        for pair in (pair for pair in facts["examples"] if pair["filter"] == stage):
            console.print(
                f"{pair['similarity']:<5.3g}  {pair['id']} repeats {pair['duplicate_of']}", markup=False, soft_wrap=True
            )
            for words in (pair["text"], pair["duplicate_of_text"]):
                console.print(f"       {words}", markup=False, overflow="ellipsis", no_wrap=True)
    for name, lost, of in _heavy(facts["dropped"]):
        console.print(
            f"[yellow]warning[/] {name} dropped {lost:,} of the {of:,} texts it saw; look at its "
            f"{'examples' if name in shown else 'reasons'} above before you use the rest"
        )
    # What an older Heirloom has left says nothing of them.
    for toll in facts.get("filter_rate_alerts", []):
        console.print(f"[yellow]warning[/] {escape(toll['reason'])}", soft_wrap=True)
    console.print(
        f"\n[bold]{facts['kept']:,} of {facts['texts']:,} texts kept[/] in {out}/kept.parquet, {took}", soft_wrap=True
    )
    if facts["masked"]:
        console.print(f"personal data is masked in {facts['masked']:,} of them")
    console.print(f"ask for more: {_QUERY.format(out=out)}", markup=False, soft_wrap=True)


def _heavy(lines: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """The sieves that dropped more than half of what they saw, with both numbers."""
    found = []
    for stage in dict.fromkeys(line["filter"] for line in lines):
        own = [line for line in lines if line["filter"] == stage]
        lost = sum(line["dropped"] for line in own)
        if lost > _ALARM * own[0]["of"]:
            found.append((stage, lost, own[0]["of"]))
    return found
