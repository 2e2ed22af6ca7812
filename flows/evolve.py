"""The loop over generations, and one generation spelled out.

heirloom evolve anchor --set generations=10
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from flows.config.recipe import GROWING, Recipe
from flows.config.resume import as_begun, said
from flows.config.site import Site
from flows.controller import Course
from flows.human_review import require_reviewer, reviewed
from flows.state import Generation
from flows.terminal.forecast import loop_of
from storage.artifacts.artifact import Artifact
from storage.datasets.eval_sets import refuse_unknown
from storage.datasets.snapshots import newest_snapshot
from storage.runs.fork import inherited_attempts
from storage.runs.run import Attempt, Run
from storage.runs.status import noted
from tasks.backends.registry import Backends, open_backends
from tasks.budget import affordable
from tasks.curation.curate import curate
from tasks.curation.decontaminate import pinned_withheld, prove, screen, usable
from tasks.evaluation.evaluate import measure
from tasks.evaluation.forecast import forecast
from tasks.evaluation.inputs import Made
from tasks.gate import gate
from tasks.generation.generate import generate
from tasks.ingestion.ingest import pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import on, story, without_coat
from tasks.orchestration.runners import runner, spread
from tasks.reporting.events import announce, label
from tasks.training.train import train


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
