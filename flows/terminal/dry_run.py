"""What a run would do: which artifacts are finished, which would be made, and with which settings."""

from rich.console import Console
from rich.markup import escape

from curation.dedup.minhash import candidate_probability
from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import resume_recipe
from flows.config.site import Site
from flows.terminal.console import table
from storage.artifacts.artifact import MANIFEST
from storage.datasets.eval_sets import list_eval_sets, require_eval_sets
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run

_STAGES = ("candidates", "decisions", "corpus", "model", "eval_samples", "metrics", "verdict")


def plan(console: Console, recipe: Recipe, site: Site) -> None:
    """Print the plan.

    Raises:
        HeirloomError: the run would be refused: nothing ingested, something not installed, or a changed recipe.
    """
    run = Run(site.synced().store, recipe.name)
    recipe = resume_recipe(recipe, run)
    run.check_drift(recipe.model_dump(mode="json"), MUTABLE_FIELDS)
    snapshot = newest_snapshot(site.store, recipe.dataset)
    require_eval_sets(site.store, recipe.dataset, recipe.evaluate.eval_sets)
    console.print(f"[bold]{recipe.name}[/] {recipe.description}")
    console.print(
        f"human text {recipe.dataset}, snapshot {snapshot}, at {human_folder(site.store, recipe.dataset, snapshot)}",
        soft_wrap=True,
    )
    withheld = ["the held-out set", *list_eval_sets(site.store, recipe.dataset)]
    console.print(f"kept out of generations that are still to begin: {', '.join(withheld)}", soft_wrap=True)
    stages = table("generation", *_STAGES, gap=1)
    for number in range(recipe.num_generations + 1):
        marks = [
            "finished" if (Attempt(run, number).folder / stage / MANIFEST).exists() else "to make" for stage in _STAGES
        ]
        marks = [
            "–" if number == 0 and stage in _STAGES[:2] else mark for stage, mark in zip(_STAGES, marks, strict=True)
        ]
        stages.add_row(str(number), *marks)
    console.print(stages)
    _settings(console, recipe)


def _settings(console: Console, recipe: Recipe) -> None:
    for name in ("prompts", "generate", "curate", "mix", "train", "evaluate", "gate", "budget", "review"):
        settings = getattr(recipe, name)
        usual = {
            key: field.get_default(call_default_factory=True) for key, field in type(settings).model_fields.items()
        }
        said = settings.model_dump(mode="json")
        asked = [f"{key} = {value!r}" for key, value in said.items() if getattr(settings, key) != usual[key]]
        # Tables are said where they are not as they are without being asked for.
        brief = [f"{key} = {value!r}" for key, value in said.items() if _is_brief(value)]
        left = [pair for pair in brief if pair not in asked]
        told = [escape(", ".join(asked))] * bool(asked) + [f"[dim]as usual: {escape(', '.join(left))}[/]"] * bool(left)
        console.print(f"[bold]\\[{name}][/] {'; '.join(told)}", soft_wrap=True)
    if "minhash" not in recipe.curate.filters:
        return
    curve = ", ".join(
        f"{similarity:.1f}: {candidate_probability(similarity, recipe.curate.minhash):.3f}"
        for similarity in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
    )
    console.print(f"chance that two texts of a given Jaccard similarity are compared at all: {curve}", soft_wrap=True)


def _is_brief(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str) for one in value)
    return not isinstance(value, dict)
