"""Commands that keep a store in order. None of them imports Prefect."""

import typer
from rich.table import Table

from flows.options import Store, console
from flows.recipe import load_site

app = typer.Typer()


@app.command(epilog="Example: `heirloom runs`")
def runs(store: Store = None) -> None:
    """List the runs of a store: how far each is, and by which policy."""
    from storage.run import runs as found

    root = load_site(None, store).opened().store
    table = Table(header_style="dim")
    for column in ("run", "generations", "policy", "backend", "question"):
        table.add_column(column)
    for run in found(root):
        recipe = run.recipe()
        accepted = max((entry["generation"] for entry in run.journal() if entry["event"] == "accepted"), default="–")
        table.add_row(
            run.name,
            f"{accepted} of {recipe['generations']}",
            recipe["mix"]["policy"],
            recipe["train"]["backend"],
            recipe["question"],
        )
    if not table.rows:
        raise ValueError(f"there is no run in {root}; begin one with: heirloom evolve RECIPE")
    console.print(table)
