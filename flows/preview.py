"""What a model would be asked, before it is asked: the prompts of generation 1, and how many of each cell."""

from collections import Counter
from itertools import islice

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.prompts import Asking, plan_prompts
from flows.recipe import Recipe, Site
from storage.artifact import read_table
from storage.records import seed_of
from storage.run import human_folder, newest_snapshot


def preview(console: Console, recipe: Recipe, site: Site, count: int) -> None:
    """Print the plan of prompts by cell, and the first `count` of them whole.

    Raises:
        ValueError: nothing was ingested, or more prompts from records are asked for than there are.
    """
    root = site.opened().store
    reserve = read_table(human_folder(root, recipe.human, newest_snapshot(root, recipe.human)) / "reserve")
    texts, sources = reserve["text"].to_pylist(), reserve["source"].to_pylist()
    asked = plan_prompts(recipe.prompts, texts, seed_of(recipe.seed, "prompts", 1, 1), sources)
    console.print(
        f"[bold]{recipe.name}[/] asks {len(asked):,} times in generation 1, by program {recipe.prompts.program}; "
        f"the record is {'prompt and answer' if recipe.prompts.leaves == 'continues' else 'the answer alone'}",
        soft_wrap=True,
    )
    if recipe.prompts.attributes:
        _cells(console, recipe, asked)
    for number, asking in enumerate(islice(asked, count), 1):
        parent = f" from {reserve['id'][asking.parent].as_py()}" if asking.parent >= 0 else ""
        console.print(f"[dim]prompt {number}{parent}[/]", soft_wrap=True)
        console.print(escape(asking.text) or "[dim](nothing: the model begins by itself)[/]", soft_wrap=True)


def _cells(console: Console, recipe: Recipe, asked: list[Asking]) -> None:
    table = Table(header_style="dim")
    for name in recipe.prompts.attributes:
        table.add_column(name, overflow="fold")
    table.add_column("prompts", justify="right")
    for cell, times in Counter(recipe.prompts.cell(asking.attributes) for asking in asked).most_common():
        table.add_row(*map(escape, cell), f"{times:,}")
    console.print(table)
