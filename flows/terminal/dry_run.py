"""Print what a run would do: finished artifacts, artifacts to compute, and settings."""

from collections.abc import Iterator, Sequence, Sized

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from curation.dedup.minhash import candidate_probability
from curation.user_code import UserCode
from flows.config.memory import UnknownShapeError, plan_memory
from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import resume_recipe
from flows.config.site import Site
from flows.terminal.console import format_bytes, table
from flows.terminal.run_summary import warn_without_filters
from storage.artifacts.artifact import MANIFEST
from storage.datasets.eval_sets import list_eval_sets, require_eval_sets
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run
from tasks.backends import TransformerTraining

_SYNTHETIC_STAGES = ("candidates", "decisions")
"""Stages that generation 0 does not have."""
_STAGES = (*_SYNTHETIC_STAGES, "corpus", "model", "eval_samples", "metrics", "verdict")
_TABLES = ("prompts", "generate", "curate", "mix", "train", "evaluate", "gate", "budget", "review")
_MIN_SHOWN_BYTES = 1 << 20
_MAX_SHOWN_ENTRIES = 50
"""Entries of a list or table; of longer ones, only the number is printed."""
_SIMILARITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def print_plan(console: Console, recipe: Recipe, site: Site) -> None:
    """Print the plan of a run. Nothing is computed, and none of the user's code is imported.

    Raises:
        HeirloomError: the run would be refused: nothing is ingested, a package is missing, or the recipe has changed.
    """
    run = Run(site.synced().store, recipe.name)
    recipe = resume_recipe(recipe, run, import_user_code=False)
    run.check_drift(recipe.model_dump(mode="json"), MUTABLE_FIELDS)
    snapshot = newest_snapshot(site.store, recipe.dataset)
    require_eval_sets(site.store, recipe.dataset, recipe.evaluate.eval_sets)
    console.print(f"[bold]{recipe.name}[/] {recipe.description}")
    console.print(
        f"dataset {recipe.dataset}, snapshot {snapshot}, at {human_folder(site.store, recipe.dataset, snapshot)}",
        soft_wrap=True,
    )
    protected = ["held-out split", *list_eval_sets(site.store, recipe.dataset)]
    console.print(f"excluded from new generations: {', '.join(protected)}", soft_wrap=True)
    stages = table("generation", *_STAGES, gap=1)
    for generation in range(recipe.num_generations + 1):
        stages.add_row(str(generation), *(_stage_state(run, generation, stage) for stage in _STAGES))
    console.print(stages)
    _print_memory(console, recipe, site)
    for name in _TABLES:
        console.print(f"[bold]\\[{name}][/] {'; '.join(_settings_lines(getattr(recipe, name)))}", soft_wrap=True)
    warn_without_filters(console, recipe)
    if user_code := recipe.user_code():
        _print_user_code(console, user_code)
    if "minhash" in recipe.curate.filters:
        _print_candidate_probability(console, recipe)


def _print_memory(console: Console, recipe: Recipe, site: Site) -> None:
    """Print the estimated bytes of each stage by what they hold, next to those of the machine."""
    try:
        plan = plan_memory(recipe, site)
    except UnknownShapeError as error:
        console.print(escape(str(error)), soft_wrap=True)
        return
    if not plan:
        return
    place = "of each GPU" if plan.machine.gpus else "of main memory"
    console.print(f"[bold]memory[/], estimated for {plan.num_weights / 1e6:,.1f} million weights in {plan.dtype}:")
    needs = table("stage", "needs", "for", gap=1, numbers=("needs",))
    for estimate in (*plan.estimates, plan.disk):
        parts = sorted(estimate.parts.items(), key=lambda part: -part[1])
        shown = ", ".join(f"{name} {format_bytes(count)}" for name, count in parts if count >= _MIN_SHOWN_BYTES)
        needs.add_row(estimate.stage, format_bytes(estimate.total), shown)
    console.print(needs)
    console.print(
        f"at most {format_bytes(plan.needed)} {place} at once, {format_bytes(plan.available)} available; "
        f"{format_bytes(plan.disk.total)} of disk space, {format_bytes(plan.free_disk)} free",
        soft_wrap=True,
    )
    for shortage in plan.shortages():
        console.print(f"[red]{escape(shortage)}[/]", soft_wrap=True)


def _print_user_code(console: Console, user_code: Sequence[UserCode]) -> None:
    console.print("[bold]your code[/], imported by the run and not by this plan:")
    references = table("setting", "reference", "from", gap=1)
    for code in user_code:
        references.add_row(code.extension_point.setting, escape(code.reference), escape(code.source_file()))
    console.print(references)


def _stage_state(run: Run, generation: int, stage: str) -> str:
    if generation == 0 and stage in _SYNTHETIC_STAGES:
        return "–"
    is_finished = (Attempt(run, generation).folder / stage / MANIFEST).exists()
    return "finished" if is_finished else "to make"


def _settings_lines(settings: BaseModel) -> Iterator[str]:
    """Yield the changed settings, those of a training preset, and the short ones among the defaults."""
    values = settings.model_dump(mode="json")
    from_preset = settings.preset_fields if isinstance(settings, TransformerTraining) else frozenset()
    changed, unchanged, preset = [], [], []
    # Not every field is dumped: some settings leave out keys that they do not use.
    for key, value in values.items():
        pair = f"{key} = {_shorten(value)!r}"
        default = type(settings).model_fields[key].get_default(call_default_factory=True)
        if key in from_preset:
            preset.append(pair)
        elif getattr(settings, key) != default:
            changed.append(pair)
        elif _is_short(value):
            unchanged.append(pair)
    if changed:
        yield escape(", ".join(changed))
    if isinstance(settings, TransformerTraining) and preset:
        yield f"preset {settings.preset}: {escape(', '.join(preset))}"
    if unchanged:
        yield f"[dim]defaults: {escape(', '.join(unchanged))}[/]"


class _Count:
    """Stands for a list or table that is too long to print."""

    def __init__(self, values: Sized) -> None:
        self.number = len(values)

    def __repr__(self) -> str:
        return f"({self.number:,} values)"


def _shorten(value: object) -> object:
    """Return a value with the number of entries in place of each long list or table."""
    if isinstance(value, list | dict) and len(value) > _MAX_SHOWN_ENTRIES:
        return _Count(value)
    if isinstance(value, dict):
        return {key: _shorten(entry) for key, entry in value.items()}
    return [_shorten(entry) for entry in value] if isinstance(value, list) else value


def _is_short(value: object) -> bool:
    """Whether a value is neither a table nor a list of tables."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) for item in value)
    return not isinstance(value, dict)


def _print_candidate_probability(console: Console, recipe: Recipe) -> None:
    curve = ", ".join(
        f"{similarity:.1f}: {candidate_probability(similarity, recipe.curate.minhash):.3f}"
        for similarity in _SIMILARITIES
    )
    console.print(
        f"minhash: probability that two texts of this Jaccard similarity are compared: {curve}", soft_wrap=True
    )
