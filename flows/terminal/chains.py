"""Print `heirloom theory chains`: greedy and sampled chains of a model, and the classes of an example kernel."""

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.theory.chains import (
    Chains,
    empirical_kernel,
    example_kernel,
    recurrent_classes,
    recurrent_set,
    simulate_walks,
)
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, load_artifact, read_table
from storage.artifacts.model_files import ensure_loadable
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Run
from storage.runs.status import accepted_attempts
from tasks.backends import Sampling, TransformerTraining
from tasks.backends.registry import Backends, open_backends, require_local_models, resolve_sampler
from tasks.backends.settings.capabilities import api_key
from tasks.generation.chains import ChainSpec, chain_seeds, run_chain, train_demo_model

_WALKS, _WALK_STEPS = 400, 200
"""Number and length of the walks from which the example kernel is estimated."""
_SHOWN_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_MAX_SHOWN_LENGTHS = 5
_MAX_SHOWN_TEXTS = 3


@dataclass(frozen=True, kw_only=True)
class ChainOptions:
    """Options of `heirloom theory chains`. Without run and teacher, a small model of Python's documentation is used."""

    run: str
    generation: int | None
    steps: int
    num_chains: int
    temperature: float
    max_tokens: int
    template: str
    seed: int
    teacher: str = ""
    """A model of the site: a local one, or one of its servers, which receives the template as a user message."""
    dataset: str = ""
    """Dataset whose held-out records start the chains of a teacher; empty for Python's documentation."""


@dataclass(frozen=True, kw_only=True)
class _ChainModel:
    """A model, the texts that start its chains, and how it is sampled."""

    folder: Path
    """Folder of the model; empty for a model on a server."""
    seeds: list[str]
    sampling: Sampling
    label: str


def show_chains(console: Console, options: ChainOptions, site: Site) -> None:
    """Run the chains and print their statistics.

    Raises:
        HeirloomError: the run, generation or site has no such model, the template has no {text}, or there are fewer
            texts than chains.
    """
    with tempfile.TemporaryDirectory() as scratch, open_backends(site.resources, Path(scratch) / "logs") as backends:
        model = _chain_model(options, site, backends, Path(scratch))
        samplings = {
            "greedy": model.sampling.model_copy(update={"top_k": 1}),
            f"sampled at {options.temperature:g}": model.sampling.model_copy(
                update={"temperature": options.temperature}
            ),
        }
        chains_by_name = {
            name: run_chain(
                model.folder,
                model.seeds,
                ChainSpec(steps=options.steps, sampling=sampling, template=options.template, seed=options.seed),
                backends,
            )
            for name, sampling in samplings.items()
        }
    console.print(
        f"[bold]{len(model.seeds)} chains of {options.steps} steps[/] by {model.label}: each output is the next input"
    )
    console.print(_statistics_table(chains_by_name))
    for name, chains in chains_by_name.items():
        _print_recurrence(console, name, chains)
    _print_example_kernel(console)


def _chain_model(options: ChainOptions, site: Site, backends: Backends, scratch: Path) -> _ChainModel:
    if options.run and options.teacher:
        raise HeirloomError(
            f"`--run {options.run}` and `--teacher {options.teacher}` both name a model. Pass one of them."
        )
    if options.dataset and not options.teacher:
        raise HeirloomError(f"`--dataset {options.dataset}` starts the chains of a teacher. Pass `--teacher MODEL`.")
    if options.teacher:
        return _teacher_model(options, site)
    if options.run:
        return _run_model(options, site)
    folder = scratch / "model"
    folder.mkdir()
    return _ChainModel(
        folder=folder,
        seeds=train_demo_model(folder, options.num_chains, backends),
        sampling=Sampling(sampler="ngram", max_tokens=options.max_tokens),
        label="a small model of Python's documentation",
    )


def _run_model(options: ChainOptions, site: Site) -> _ChainModel:
    root = site.synced().store
    run = Run(root, options.run)
    recipe = Recipe.model_validate(run.recipe())
    folders = {
        generation: run.folder / f"generation={generation}/attempt={attempt}/model"
        for generation, attempt in sorted(accepted_attempts(run))
    }
    finished = {generation: folder for generation, folder in folders.items() if (folder / MANIFEST).exists()}
    generation = max(finished, default=None) if options.generation is None else options.generation
    if generation not in finished:
        known = ", ".join(map(str, finished)) or "none yet"
        raise HeirloomError(
            f"Run {options.run} has no model of generation {generation}. Generations with a model: {known}."
        )
    return _ChainModel(
        folder=ensure_loadable(load_artifact(finished[generation])),
        seeds=_heldout_texts(root, recipe.dataset, options.num_chains),
        sampling=Sampling(sampler=recipe.resolve_auto().generate.sampler, max_tokens=options.max_tokens),
        label=f"generation {generation} of {options.run}",
    )


def _teacher_model(options: ChainOptions, site: Site) -> _ChainModel:
    sampling = Sampling(
        teacher=options.teacher,
        teacher_api="chat" if options.template else "completions",
        max_tokens=options.max_tokens,
    )
    require_local_models(sampling, site.resources)
    api_key(sampling, site.resources)
    if options.dataset:
        seeds = _heldout_texts(site.synced().store, options.dataset, options.num_chains)
    else:
        seeds = chain_seeds(options.num_chains)
    return _ChainModel(
        folder=Path(),
        seeds=seeds,
        sampling=resolve_sampler(sampling, TransformerTraining()),
        label=options.teacher,
    )


def _heldout_texts(root: Path, dataset: str, count: int) -> list[str]:
    folder = human_folder(root, dataset, newest_snapshot(root, dataset)) / "human_heldout"
    texts = read_table(folder, ["text"])["text"].to_pylist()
    if len(texts) < count:
        raise HeirloomError(
            f"`--chains {count}` requires {count} held-out texts, but {dataset} has {len(texts)}. "
            "Lower it, or ingest more text."
        )
    return texts[:count]


def _statistics_table(chains_by_name: Mapping[str, Chains]) -> Table:
    numbers = ("step", "distinct texts", "similarity to last", "drift from seed")
    rows = table("", *numbers, numbers=numbers)
    for name, chains in chains_by_name.items():
        statistics_by_step = list(zip(chains.distinct()[1:], chains.similarity(), chains.drift(), strict=True))
        for step in sorted({min(step, chains.steps) for step in _SHOWN_STEPS} | {chains.steps}):
            distinct, similarity, drift = statistics_by_step[step - 1]
            rows.add_row(name if step == 1 else "", str(step), str(distinct), f"{similarity:.2f}", f"{drift:.2f}")
    return rows


def _print_recurrence(console: Console, name: str, chains: Chains) -> None:
    times = [time for time in chains.first_recurrences() if time <= chains.steps]
    if not times:
        console.print(f"[bold]{name}[/]: no chain repeats a text within {chains.steps} steps")
        return
    cycles = [cycle for cycle in map(recurrent_set, chains.states) if cycle]
    lengths = sorted({len(cycle) for cycle in cycles})
    shown_lengths = " or ".join(map(str, lengths[:_MAX_SHOWN_LENGTHS]))
    more = " ..." if len(lengths) > _MAX_SHOWN_LENGTHS else ""
    num_texts = len({text for cycle in cycles for text in cycle})
    console.print(
        f"[bold]{name}[/]: {len(times)} of {len(chains.states)} chains repeat a text, half of them by step "
        f"{statistics.median_low(times)}; cycles of {shown_lengths}{more} steps, {num_texts} texts in total. "
        "The shortest cycle:",
        soft_wrap=True,
    )
    for text in min(cycles, key=len)[:_MAX_SHOWN_TEXTS]:
        console.print(f"    {' '.join(text.split()) or '(empty)'}", markup=False, overflow="ellipsis", no_wrap=True)


def _print_example_kernel(console: Console) -> None:
    kernel, classes = example_kernel()
    starts = [*range(len(kernel))] * (_WALKS // len(kernel))
    walks = simulate_walks(kernel, starts, _WALK_STEPS, 0)
    estimated = recurrent_classes(empirical_kernel(walks, len(kernel)))
    shown = ", ".join("{" + ", ".join(map(str, sorted(states))) + "}" for states in classes)
    is_same = estimated == recurrent_classes(kernel) == classes
    console.print(
        f"\nThe recurrent classes of an example kernel with {len(kernel)} states are {shown}. Computed from the "
        f"kernel, and estimated from {_WALKS} walks of {_WALK_STEPS} steps, they are: "
        f"{'[green]the same[/]' if is_same else '[red]different[/]'}",
        soft_wrap=True,
    )
