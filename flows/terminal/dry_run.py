"""Print what a run would do: data, generations, changed settings, cost and memory; on request everything."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.dedup.minhash import candidate_probability
from curation.user_code import UserCode
from flows.config.cost import estimate_cost
from flows.config.memory import UnknownShapeError, plan_memory
from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import resume_recipe
from flows.config.site import Site
from flows.terminal.console import format_bytes, format_seconds, table
from flows.terminal.run_summary import warn_without_filters
from storage.artifacts.artifact import MANIFEST, read_manifest
from storage.datasets.eval_sets import list_eval_sets, require_eval_sets
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, Run
from tasks.backends import TransformerTraining

_SYNTHETIC_STAGES = ("candidates", "decisions")
"""Stages that generation 0 does not have."""
_STAGES = (*_SYNTHETIC_STAGES, "corpus", "model", "eval_samples", "metrics", "verdict")
_TABLES = ("prompts", "generate", "verify", "curate", "mix", "train", "evaluate", "gate", "budget", "review")
_IN_OTHER_LINES = {
    *("curate.filters", "mix.policy", "mix.human_fraction"),
    *("generate.sampler", "train.backend", "train.base_model", "train.init_from"),
}
"""Settings that lines of the short plan show, changed or not."""
_MIN_SHOWN_BYTES = 1 << 20
_MAX_SHOWN_ENTRIES = 50
"""Entries of a list or table; of longer ones, only the number is printed."""
_SIMILARITIES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def print_plan(console: Console, recipe: Recipe, site: Site, show_all: bool = False) -> None:
    """Print the plan of a run. Nothing is computed, and none of the user's code is imported.

    Args:
        console: where it is printed.
        recipe: recipe of the run.
        site: store and resources.
        show_all: print every artifact, the parts of the memory estimate, and every setting.

    Raises:
        HeirloomError: the run would be refused: nothing is ingested, a package is missing, or the recipe has changed.
    """
    run = Run(site.synced().store, recipe.name)
    recipe = resume_recipe(recipe, run, import_user_code=False)
    run.check_drift(recipe.model_dump(mode="json"), MUTABLE_FIELDS)
    snapshot = newest_snapshot(site.store, recipe.dataset)
    require_eval_sets(site.store, recipe.dataset, recipe.evaluate.eval_sets)
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True, style="bold")
    lines.add_column(overflow="fold")
    for name, text in _summary(recipe, site, run, snapshot):
        lines.add_row(name, text)
    console.print(lines)
    if show_all:
        _print_artifacts(console, recipe, run)
        _print_memory_parts(console, recipe, site)
        for name in _TABLES:
            console.print(f"[bold]\\[{name}][/] {'; '.join(_settings_lines(getattr(recipe, name)))}", soft_wrap=True)
    warn_without_filters(console, recipe)
    if user_code := recipe.user_code():
        _print_user_code(console, user_code)
    if show_all and "minhash" in recipe.curate.filters:
        _print_candidate_probability(console, recipe)
    if not show_all:
        console.print("[dim]every artifact and setting: add --all[/]")


def _summary(recipe: Recipe, site: Site, run: Run, snapshot: int) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each line of the short plan."""
    human = human_folder(site.store, recipe.dataset, snapshot)
    counts = {split: read_manifest(human / split)["rows"] for split in ("human_train", "human_heldout")}
    yield "run", f"{escape(recipe.name)}: {escape(recipe.description)}" if recipe.description else escape(recipe.name)
    dataset = f"{escape(recipe.dataset)}, snapshot {snapshot}"
    yield (
        "data",
        f"{dataset}: {counts['human_train']:,} human records to train on, {counts['human_heldout']:,} held out",
    )
    protected = ["held-out split", *list_eval_sets(site.store, recipe.dataset)]
    yield "protected", f"{escape(', '.join(protected))}: never in prompts or training"
    yield "generations", _progress(recipe, run)
    yield "model", _model(recipe)
    yield "filters", escape(" → ".join(recipe.curate.filters)) or "[yellow]none[/]"
    yield "mix", _mix(recipe)
    yield "changed", escape(_changed(recipe)) or "nothing: all settings have their defaults"
    cost = estimate_cost(recipe, site, human / "human_train")
    yield "tokens", f"about {cost.generated_tokens:,} to generate, {cost.trained_tokens:,} to train on"
    time = "unknown until a generation with such a model is finished in this store"
    if cost.seconds is not None:
        time = f"about {format_seconds(cost.seconds)}, from {cost.num_rates} earlier generations in this store"
    yield "time", time
    if cost.price is not None:
        yield "price", f"about {cost.price:,.2f}"
    yield from _memory_lines(recipe, site)


def _progress(recipe: Recipe, run: Run) -> str:
    last = recipe.num_generations
    finished = [number for number in range(last + 1) if _stage_state(run, number, "verdict") == "finished"]
    if not finished:
        return f"0 to {last}: none is finished"
    if len(finished) > last:
        return f"0 to {last}: all are finished, so nothing is to do"
    return f"0 to {last}: {len(finished)} finished; continues with generation {finished[-1] + 1}"


def _model(recipe: Recipe) -> str:
    train = recipe.train
    base = train.base_model if isinstance(train, TransformerTraining) else ""
    origin = f"from {escape(base)}" if base else "from scratch"
    sampler = recipe.generate.sampler
    return f"{train.backend}, trained {origin}" + ("" if sampler == train.backend else f", sampled by {sampler}")


def _mix(recipe: Recipe) -> str:
    mix, share = recipe.mix, recipe.mix.human_fraction
    return f"policy {mix.policy}" + (f", {share:.0%} human text" if share is not None else "")


def _changed(recipe: Recipe) -> str:
    """Return the settings that differ from their defaults, without those that other lines show."""
    tables = {name: getattr(recipe, name) for name in _TABLES}
    return ", ".join(
        f"{name}.{key} = {_shorten(settings.model_dump(mode='json')[key])!r}"
        for name, settings in tables.items()
        for key in _split_settings(settings).changed
        if f"{name}.{key}" not in _IN_OTHER_LINES
    )


def _memory_lines(recipe: Recipe, site: Site) -> Iterator[tuple[str, str]]:
    """Yield the lines on memory and disk space, and one for each shortage."""
    try:
        plan = plan_memory(recipe, site)
    except UnknownShapeError as error:
        yield "memory", escape(str(error))
        return
    if not plan:
        return
    place = "of each GPU" if plan.machine.gpus else "of main memory"
    model = f"{plan.num_weights / 1e6:,.1f} million weights in {plan.dtype}"
    available = format_bytes(plan.available)
    yield "memory", f"about {format_bytes(plan.needed)} {place} at once for {model}, {available} available"
    yield "disk", f"about {format_bytes(plan.disk.total)}, {format_bytes(plan.free_disk)} free"
    for shortage in plan.shortages():
        yield "[red]shortage[/]", f"[red]{escape(shortage)}[/]"


def _print_artifacts(console: Console, recipe: Recipe, run: Run) -> None:
    stages = table("generation", *_STAGES, gap=1)
    for generation in range(recipe.num_generations + 1):
        stages.add_row(str(generation), *(_stage_state(run, generation, stage) for stage in _STAGES))
    console.print(stages)


def _print_memory_parts(console: Console, recipe: Recipe, site: Site) -> None:
    """Print the estimated bytes of each stage by what they hold."""
    try:
        plan = plan_memory(recipe, site)
    except UnknownShapeError:
        return
    if not plan:
        return
    needs = table("stage", "needs", "for", gap=1, numbers=("needs",))
    for estimate in (*plan.estimates, plan.disk):
        parts = sorted(estimate.parts.items(), key=lambda part: -part[1])
        shown = ", ".join(f"{name} {format_bytes(count)}" for name, count in parts if count >= _MIN_SHOWN_BYTES)
        needs.add_row(estimate.stage, format_bytes(estimate.total), shown)
    console.print(needs)


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


@dataclass(frozen=True)
class _SplitSettings:
    """Names of the settings of a table by where their values come from."""

    changed: Sequence[str]
    preset: Sequence[str]
    default: Sequence[str]


def _split_settings(settings: BaseModel) -> _SplitSettings:
    from_preset = settings.preset_fields if isinstance(settings, TransformerTraining) else frozenset()
    changed, preset, default = [], [], []
    # Not every field is dumped: some settings leave out keys that they do not use.
    for key in settings.model_dump(mode="json"):
        if key in from_preset:
            preset.append(key)
        elif getattr(settings, key) != type(settings).model_fields[key].get_default(call_default_factory=True):
            changed.append(key)
        else:
            default.append(key)
    return _SplitSettings(changed, preset, default)


def _settings_lines(settings: BaseModel) -> Iterator[str]:
    """Yield the changed settings, those of a training preset, and the short ones among the defaults."""
    values = settings.model_dump(mode="json")

    def pairs(keys: Iterable[str]) -> str:
        return escape(", ".join(f"{key} = {_shorten(values[key])!r}" for key in keys))

    split = _split_settings(settings)
    if split.changed:
        yield pairs(split.changed)
    if isinstance(settings, TransformerTraining) and split.preset:
        yield f"preset {settings.preset}: {pairs(split.preset)}"
    if defaults := [key for key in split.default if _is_short(values[key])]:
        yield f"[dim]defaults: {pairs(defaults)}[/]"


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
