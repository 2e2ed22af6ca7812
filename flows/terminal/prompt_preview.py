"""Print the prompts of the next generation: how many per attribute, topic and teacher, and some of them in full."""

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice

from rich.console import Console
from rich.markup import escape

from curation.selection.topics import TopicModel
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from storage.artifacts.artifact import MANIFEST, load_artifact, read_table
from storage.artifacts.survivors import without_dropped
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run
from tasks.backends import SELF_TEACHER
from tasks.context import CuratedCandidates
from tasks.generation.prompt_plan import PromptPlan, build_prompt_plan, topic_coverage

_RECORD_TEXTS = {
    "prompt_and_completion": "prompt and completion",
    "completion": "the completion",
    "chat": "prompt and completion as a chat",
}
"""Description of the record by `prompts.output_format`."""
_MAX_ROWS = 200
"""Rows of a printed table."""


def print_preview(console: Console, recipe: Recipe, site: Site, count: int) -> None:
    """Print the prompt plan of the next generation, and its first `count` prompts in full.

    For an existing run, records that the last generation excluded are not used.

    Raises:
        HeirloomError: the dataset is not ingested, or the plan needs more records than there are.
    """
    root = site.synced().store
    human = read_table(human_folder(root, recipe.dataset, newest_snapshot(root, recipe.dataset)) / "human_train")
    finished = _finished_attempts(Run(root, recipe.name))
    if finished and (finished[-1].folder / "excluded_records" / MANIFEST).exists():
        human = without_dropped(human, finished[-1].folder / "excluded_records")
    synthetic = [
        CuratedCandidates(
            candidates=load_artifact(attempt.folder / "candidates"),
            decisions=load_artifact(attempt.folder / "decisions"),
        )
        for attempt in finished
        if attempt.generation
    ]
    generation = len(finished) or 1
    topics = None
    if recipe.prompts.topic_steering.num_topics:
        topics = topic_coverage(recipe.prompts.topic_steering, human, synthetic)
    attempt = Attempt(Run(root, recipe.name), generation)
    prompt_plan = build_prompt_plan(recipe, attempt, human, synthetic, topics)
    _print_totals(console, recipe, prompt_plan, generation)
    if recipe.generate.teachers:
        teachers = Counter(assignment.teacher or SELF_TEACHER for assignment in prompt_plan.assignments)
        rows = ((teacher, f"{number:,}") for teacher, number in teachers.most_common())
        _print_counts(console, ("teacher",), ("candidates",), rows)
    if recipe.prompts.attributes:
        combinations = Counter(recipe.prompts.attribute_cell(spec.attributes) for spec in prompt_plan.specs)
        counts = ((*values, f"{number:,}") for values, number in combinations.most_common())
        _print_counts(console, recipe.prompts.attributes, ("prompts",), counts)
    if topics:
        _print_topics(console, topics, prompt_plan)
    for number, spec in enumerate(islice(prompt_plan.specs, count), 1):
        parent = f" from {human['id'][spec.human_row].as_py()}" if spec.human_row >= 0 else ""
        console.print(f"[dim]prompt {number}{parent}[/]", soft_wrap=True)
        console.print(escape(spec.text) or "[dim](empty: unconditional generation)[/]", soft_wrap=True)
    if recipe.prompts.template_name == "unconditional":
        console.print(
            "[dim]To prompt with human text: --set prompts.template_name=prefix, or another (docs/generation.md).[/]",
            soft_wrap=True,
        )


def _finished_attempts(run: Run) -> list[Attempt]:
    """Return the first attempts of the finished generations, from generation 0 on."""
    attempts: list[Attempt] = []
    while True:
        attempt = Attempt(run, len(attempts))
        if not (attempt.folder / "verdict" / MANIFEST).exists():
            return attempts
        attempts.append(attempt)


def _print_totals(console: Console, recipe: Recipe, prompt_plan: PromptPlan, generation: int) -> None:
    num_prompts, num_completions = len(prompt_plan.specs), len(prompt_plan.assignments)
    completions = selection = ""
    if num_completions > num_prompts:
        completions = f", {num_completions:,} completions"
        selection = "; all completions are kept"
    if "best_of" in recipe.curate.filters:
        selection = f"; best_of keeps the completion with the highest {recipe.curate.best_of.objective}"
    console.print(
        f"[bold]{recipe.name}[/] generation {generation}: {num_prompts:,} prompts{completions}, "
        f"template {recipe.prompts.template_name}; record: {_RECORD_TEXTS[recipe.prompts.resolved_output_format]}"
        f"{selection}",
        soft_wrap=True,
    )


def _print_topics(console: Console, topics: TopicModel, prompt_plan: PromptPlan) -> None:
    num_prompts = Counter(int(topics.assignment[spec.human_row]) for spec in prompt_plan.specs if spec.human_row >= 0)
    counts = zip(topics.top_words, topics.human_count.tolist(), topics.synthetic_count.tolist(), strict=True)
    rows = [
        (" ".join(words), f"{human:,}", f"{synthetic:,}", f"{num_prompts[topic]:,}")
        for topic, (words, human, synthetic) in enumerate(counts)
    ]
    _print_counts(console, ("topic",), ("human records", "last generation", "prompts"), rows)


def _print_counts(
    console: Console, labels: Iterable[str], numbers: Collection[str], rows: Iterable[tuple[str, ...]]
) -> None:
    """Print the first rows as a table, and the number of further ones."""
    counts, remaining = table(*labels, *numbers, numbers=numbers), iter(rows)
    for row in islice(remaining, _MAX_ROWS):
        counts.add_row(*map(escape, row))
    console.print(counts)
    if num_more := sum(1 for _ in remaining):
        console.print(f"[dim]and {num_more:,} more rows[/]")
