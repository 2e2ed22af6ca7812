"""The loop over generations, and one generation spelled out.

heirloom evolve anchor --set generations=10
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Self

from flows.continuing import as_begun, said
from flows.course import Course
from flows.forecasting import loop_of
from flows.recipe import GROWING, Recipe, Site
from flows.review import require_reviewer, reviewed
from storage.artifact import Artifact, read_manifest
from storage.evaluation import refuse_unknown
from storage.fork import artifact_folders_of, as_made, inherited_attempts
from storage.run import Attempt, Run, newest_snapshot
from storage.standing import noted
from tasks.announce import announce, label
from tasks.backends.pool import Backends, open_backends
from tasks.budget import affordable
from tasks.coat import on, story, without_coat
from tasks.curate import curate
from tasks.forecast import forecast
from tasks.gate import gate
from tasks.generate import generate
from tasks.ingest import pinned_human
from tasks.made import Made
from tasks.measure import measure
from tasks.mix import mix
from tasks.screen import pinned_withheld, prove, screen, usable
from tasks.spread import runner, spread
from tasks.train import train


@dataclass(frozen=True)
class Generation:
    """What one generation left behind; generation 0 has neither candidates nor decisions."""

    attempt: Attempt
    candidates: Artifact | None
    decisions: Artifact | None
    corpus: Artifact
    model: Artifact
    metrics: Artifact
    verdict: Artifact

    @classmethod
    def as_made(cls, attempt: Attempt) -> Self:
        """A finished generation as its manifests describe it, whatever the recipe would ask for today."""
        found = {folder.name: as_made(folder) for folder in artifact_folders_of(attempt)}
        spoken = found.get("candidates"), found.get("decisions")
        return cls(attempt, *spoken, found["corpus"], found["model"], found["metrics"], found["verdict"])

    @property
    def action(self) -> str:
        """What the gate says to do next, as `curation.gates` lists it."""
        return str(read_manifest(self.verdict.folder)["facts"]["action"])

    @property
    def reasons(self) -> str:
        """Why the gate says so; empty where every limit was kept."""
        return "; ".join(read_manifest(self.verdict.folder)["facts"]["reasons"])


@story(name="evolve", flow_run_name="{recipe.name}")
def evolve(recipe: Recipe, site: Site) -> str:
    """Run a recipe from where it stands to `recipe.generations`; what is finished is not made again.

    Returns the action of the last verdict; `stop` or `roll_back` where the gate, or a person, ended the run early.
    """
    run = Run(site.opened().store, recipe.name)
    spoken, recipe = said(recipe), as_begun(recipe, run)
    newest_snapshot(site.store, recipe.human)  # refuses before anything is written, and so does the next
    refuse_unknown(site.store, recipe.human, recipe.measure.evaluation)
    require_reviewer(recipe.review)
    with run.lock(), open_backends(site.resources, site.store / "logs", spread) as backends:
        run.begin(recipe.model_dump(mode="json"), GROWING, site.model_dump(mode="json"), spoken)
        backends.warm(recipe.train, recipe.generate)
        course = Course(run, recipe, [Generation.as_made(attempt) for attempt in inherited_attempts(run)])
        workers = runner(site.resources.ray)
        while (attempt := course.following()) and [*affordable(run, [attempt.generation], recipe.budget)]:
            human = pinned_human(attempt, recipe.human)
            # What is settled is looked at, and is no news.
            with without_coat() if noted(attempt, "accepted") else nullcontext():
                turn = on(generation, workers)(course.recipe, attempt, human, course.lived, backends)
            announce(attempt, turn.action, turn.reasons)
            label(policy=recipe.mix.policy, verdict=turn.action)
            reserve = usable(human["reserve"], attempt)
            course.take(turn, reserve, reviewed(turn, recipe.review, partial(course.fault, turn)))
    return course.action


@story(name="generation", flow_run_name="{attempt}", validate_parameters=False)
def generation(
    recipe: Recipe, attempt: Attempt, human: dict[str, Artifact], lived: Sequence[Generation], backends: Backends
) -> Generation:
    """One turn: the last model speaks, its words are curated and mixed, a new model learns and is measured."""
    label(policy=recipe.mix.policy)
    reserve, heldout = human["reserve"], human["heldout"]
    withheld = pinned_withheld(attempt, reserve)
    pool = [(past.candidates, past.decisions) for past in lived if past.candidates and past.decisions]
    candidates = decisions = None
    kept_out = screen(attempt, reserve, withheld, pool, recipe.curate)
    if lived:
        asked = (recipe.prompts, recipe.generate, recipe.seed)
        candidates = generate(attempt, lived[-1].model, reserve, *asked, backends, kept_out, pool)
        decisions = curate(attempt, candidates, reserve, withheld, pool, recipe.curate)
        pool = [*pool, (candidates, decisions)]
    corpus = mix(attempt, reserve, pool, recipe.mix, recipe.seed, kept_out, lived[-1].corpus if lived else None)
    prove(attempt, corpus, withheld, recipe.curate)
    first, last = (lived[0].model, lived[-1].model) if lived else (None, None)
    model = train(attempt, corpus, heldout, first, recipe.train, recipe.seed, backends, last, reserve, pool)
    made = Made(model, corpus, reserve, heldout, candidates, *((lived[-1].corpus, lived[0].attempt) if lived else ()))
    forecast(attempt, reserve, recipe.measure, loop_of(recipe), recipe.seed)
    looking = (recipe.measure, recipe.train, recipe.generate, recipe.seed)
    metrics = measure(attempt, made, *looking, backends, withheld)
    verdict = gate(attempt, [*(past.metrics for past in lived), metrics], recipe.gate)
    turn = Generation(attempt, candidates, decisions, corpus, model, metrics, verdict)
    label(verdict=turn.action)
    return turn
