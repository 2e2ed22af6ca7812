"""What would be asked next, before it is asked: prompts of the next generation, how many of each kind, and of whom."""

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice

from rich.console import Console
from rich.markup import escape

from curation.selection.topics import TopicModel
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from storage.artifacts.artifact import MANIFEST, Artifact, load_artifact, read_table
from storage.artifacts.survivors import without_dropped
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run
from tasks.backends import SELF_TEACHER
from tasks.context import CuratedCandidates
from tasks.generation.prompt_plan import PromptPlan, build_prompt_plan, topic_coverage

_LEAVES = {
    "prompt_and_completion": "prompt and completion",
    "completion": "the completion alone",
    "chat": "both, as a conversation",
}


def preview(console: Console, recipe: Recipe, site: Site, count: int) -> None:
    """Print the plan of prompts by cell, topic and teacher, and the first `count` of them whole.

    A run that has begun is shown as its next generation would go on; the last screening says what is not prompted from.

    Raises:
        HeirloomError: nothing was ingested, or more prompts from records are asked for than there are.
    """
    root = site.synced().store
    human = read_table(human_folder(root, recipe.dataset, newest_snapshot(root, recipe.dataset)) / "human_train")
    done = _finished(Run(root, recipe.name))
    if done and (done[-1].folder / "excluded_records" / MANIFEST).exists():
        human = without_dropped(human, done[-1].folder / "excluded_records")
    synthetic = [
        CuratedCandidates(candidates=_made(one, "candidates"), decisions=_made(one, "decisions"))
        for one in done
        if one.generation
    ]
    generation = len(done) or 1
    topics = (
        topic_coverage(recipe.prompts.topic_steering, human, synthetic)
        if recipe.prompts.topic_steering.num_topics
        else None
    )
    planned = build_prompt_plan(recipe, Attempt(Run(root, recipe.name), generation), human, synthetic, topics)
    _told(console, recipe, planned, generation)
    if recipe.generate.teachers:
        asked = Counter(assignment.teacher or SELF_TEACHER for assignment in planned.assignments)
        _counts(console, ("teacher",), ("candidates",), ((name, f"{times:,}") for name, times in asked.most_common()))
    if recipe.prompts.attributes:
        cells = Counter(recipe.prompts.attribute_cell(asking.attributes) for asking in planned.specs)
        rows = ((*cell, f"{times:,}") for cell, times in cells.most_common())
        _counts(console, recipe.prompts.attributes, ("prompts",), rows)
    if topics:
        _topics(console, topics, planned)
    for number, asking in enumerate(islice(planned.specs, count), 1):
        parent = f" from {human['id'][asking.human_row].as_py()}" if asking.human_row >= 0 else ""
        console.print(f"[dim]prompt {number}{parent}[/]", soft_wrap=True)
        console.print(escape(asking.text) or "[dim](nothing: the model begins by itself)[/]", soft_wrap=True)
    if recipe.prompts.template_name == "unconditional":
        console.print(
            "[dim]to ask with human text: --set prompts.template_name=prefix, or another (docs/generation.md)[/]"
        )


def _finished(run: Run) -> list[Attempt]:
    """First attempts of the generations that are finished, from generation 0 on."""
    found: list[Attempt] = []
    while (attempt := Attempt(run, len(found))).folder.joinpath("verdict", MANIFEST).exists():
        found.append(attempt)
    return found


def _made(attempt: Attempt, name: str) -> Artifact:
    return load_artifact(attempt.folder / name)


def _told(console: Console, recipe: Recipe, planned: PromptPlan, generation: int) -> None:
    prompts, several = recipe.prompts, len(planned.assignments) > len(planned.specs)
    answers = f", {len(planned.assignments):,} answers in all" if several else ""
    best = recipe.curate.best_of.objective if "best_of" in recipe.curate.filters else ""
    chosen = f"; best_of keeps the answer with most {best}" if best else "; all of them are kept" if several else ""
    console.print(
        f"[bold]{recipe.name}[/] asks {len(planned.specs):,} times in generation {generation}{answers}, by program "
        f"{prompts.template_name}; the record is {_LEAVES[prompts.resolved_output_format]}{chosen}",
        soft_wrap=True,
    )


def _topics(console: Console, topics: TopicModel, planned: PromptPlan) -> None:
    asked = Counter(int(topics.assignment[one.human_row]) for one in planned.specs if one.human_row >= 0)
    rows = [
        (" ".join(words), f"{human:,}", f"{said:,}", f"{asked[topic]:,}")
        for topic, (words, human, said) in enumerate(
            zip(topics.top_words, topics.human_count.tolist(), topics.synthetic_count.tolist(), strict=True)
        )
    ]
    _counts(console, ("topic",), ("human records", "said last", "prompts"), rows)


def _counts(console: Console, words: Iterable[str], numbers: Collection[str], rows: Iterable[tuple[str, ...]]) -> None:
    counts = table(*words, *numbers, numbers=numbers)
    for row in rows:
        counts.add_row(*map(escape, row))
    console.print(counts)
