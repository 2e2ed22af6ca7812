"""What would be asked next, before it is asked: prompts of the next generation, how many of each kind, and of whom."""

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice

from rich.console import Console
from rich.markup import escape

from curation.selection.topics import Topics
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from storage.artifacts.artifact import MANIFEST, Artifact, as_made, read_table
from storage.artifacts.survivors import without_dropped
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run
from tasks.backends import OWN
from tasks.generation.prompt_plan import Planned, plan, tail_report

_LEAVES = {"continues": "prompt and answer", "alone": "the answer alone", "conversation": "both, as a conversation"}


def preview(console: Console, recipe: Recipe, site: Site, count: int) -> None:
    """Print the plan of prompts by cell, topic and teacher, and the first `count` of them whole.

    A run that has begun is shown as its next generation would go on; the last screening says what is not prompted from.

    Raises:
        ValueError: nothing was ingested, or more prompts from records are asked for than there are.
    """
    root = site.opened().store
    human = read_table(human_folder(root, recipe.human, newest_snapshot(root, recipe.human)) / "reserve")
    done = _finished(Run(root, recipe.name))
    if done and (done[-1].folder / "kept_out" / MANIFEST).exists():
        human = without_dropped(human, done[-1].folder / "kept_out")
    pool = [(_made(one, "candidates"), _made(one, "decisions")) for one in done if one.generation]
    generation = len(done) or 1
    topics = tail_report(recipe.prompts.steer, human, pool) if recipe.prompts.steer.topics else None
    planned = plan(recipe.prompts, recipe.generate, human, pool, topics, (recipe.seed, generation, 1))
    _told(console, recipe, planned, generation)
    if recipe.generate.teachers:
        asked = Counter(name or OWN for _, name in planned.turns)
        _counts(console, ("teacher",), ("candidates",), ((name, f"{times:,}") for name, times in asked.most_common()))
    if recipe.prompts.attributes:
        cells = Counter(recipe.prompts.cell(asking.attributes) for asking in planned.asked)
        rows = ((*cell, f"{times:,}") for cell, times in cells.most_common())
        _counts(console, recipe.prompts.attributes, ("prompts",), rows)
    if topics:
        _topics(console, topics, planned)
    for number, asking in enumerate(islice(planned.asked, count), 1):
        parent = f" from {human['id'][asking.parent].as_py()}" if asking.parent >= 0 else ""
        console.print(f"[dim]prompt {number}{parent}[/]", soft_wrap=True)
        console.print(escape(asking.text) or "[dim](nothing: the model begins by itself)[/]", soft_wrap=True)
    if recipe.prompts.program == "blank":
        console.print("[dim]to ask with human text: --set prompts.program=opening, or another (docs/generation.md)[/]")


def _finished(run: Run) -> list[Attempt]:
    """First attempts of the generations that are finished, from generation 0 on."""
    found: list[Attempt] = []
    while (attempt := Attempt(run, len(found))).folder.joinpath("verdict", MANIFEST).exists():
        found.append(attempt)
    return found


def _made(attempt: Attempt, name: str) -> Artifact:
    return as_made(attempt.folder / name)


def _told(console: Console, recipe: Recipe, planned: Planned, generation: int) -> None:
    prompts, several = recipe.prompts, len(planned.turns) > len(planned.asked)
    answers = f", {len(planned.turns):,} answers in all" if several else ""
    best = recipe.curate.best_of.objective if "best_of" in recipe.curate.stages else ""
    chosen = f"; best_of keeps the answer with most {best}" if best else "; all of them are kept" if several else ""
    console.print(
        f"[bold]{recipe.name}[/] asks {len(planned.asked):,} times in generation {generation}{answers}, by program "
        f"{prompts.program}; the record is {_LEAVES[prompts.leaves]}{chosen}",
        soft_wrap=True,
    )


def _topics(console: Console, topics: Topics, planned: Planned) -> None:
    asked = Counter(int(topics.of_human[one.parent]) for one in planned.asked if one.parent >= 0)
    rows = [
        (" ".join(words), f"{human:,}", f"{said:,}", f"{asked[topic]:,}")
        for topic, (words, human, said) in enumerate(
            zip(topics.words, topics.human.tolist(), topics.said.tolist(), strict=True)
        )
    ]
    _counts(console, ("topic",), ("human records", "said last", "prompts"), rows)


def _counts(console: Console, words: Iterable[str], numbers: Collection[str], rows: Iterable[tuple[str, ...]]) -> None:
    counts = table(*words, *numbers, numbers=numbers)
    for row in rows:
        counts.add_row(*map(escape, row))
    console.print(counts)
