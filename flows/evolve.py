"""The loop over generations, and one generation spelled out.

heirloom run anchor --set num_generations=10
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import explicit_fields, resume_recipe
from flows.config.site import Site
from flows.controller import LoopController
from flows.human_review import require_review_server, wait_for_review
from flows.state import Generation
from flows.terminal.forecast import loop_spec
from storage.artifacts.artifact import Artifact
from storage.datasets.eval_sets import require_eval_sets
from storage.datasets.snapshots import newest_snapshot
from storage.runs.fork import inherited_attempts
from storage.runs.run import Attempt, Run
from storage.runs.status import journal_entry
from tasks.backends.registry import Backends, open_backends
from tasks.budget import within_budget
from tasks.curation.curate import curate
from tasks.curation.decontaminate import check_contamination, count_usable, find_excluded_records, load_protected_sets
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.forecast import forecast
from tasks.evaluation.inputs import EvalInputs
from tasks.gate import judge_generation
from tasks.generation.generate import generate
from tasks.ingestion.ingest import load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import flow, with_task_runner, without_prefect
from tasks.orchestration.runners import map_pieces, task_runner_for
from tasks.reporting.events import emit_generation_event, tag_flow_run
from tasks.training.train import train


@flow(name="evolve", flow_run_name="{recipe.name}")
def evolve(recipe: Recipe, site: Site) -> str:
    """Run a recipe from where it stands to `recipe.generations`; what is finished is not made again.

    Returns the action of the last verdict; `stop` or `roll_back` where the gate, or a person, ended the run early.
    """
    run = Run(site.synced().store, recipe.name)
    spoken, recipe = explicit_fields(recipe), resume_recipe(recipe, run)
    newest_snapshot(site.store, recipe.dataset)  # refuses before anything is written, and so does the next
    require_eval_sets(site.store, recipe.dataset, recipe.evaluate.eval_sets)
    require_review_server(recipe.review)
    with run.lock(), open_backends(site.resources, site.store / "logs", map_pieces) as backends:
        run.initialize(recipe.model_dump(mode="json"), MUTABLE_FIELDS, site.model_dump(mode="json"), spoken)
        backends.preload(recipe.train, recipe.generate)
        course = LoopController(run, recipe, [Generation.load(attempt) for attempt in inherited_attempts(run)])
        workers = task_runner_for(site.resources.ray)
        while (attempt := course.next_attempt()) and [*within_budget(run, [attempt.generation], recipe.budget)]:
            human = load_pinned_human(attempt, recipe.dataset)
            # What is settled is looked at, and is no news.
            with without_prefect() if journal_entry(attempt, "accepted") else nullcontext():
                turn = with_task_runner(run_generation, workers)(
                    course.recipe, attempt, human, course.accepted, backends
                )
            emit_generation_event(attempt, turn.action, turn.reasons)
            tag_flow_run(policy=recipe.mix.policy, verdict=turn.action)
            reserve = count_usable(human["human_train"], attempt)
            course.apply(turn, reserve, wait_for_review(turn, recipe.review, partial(course.validate_review, turn)))
    return course.action


@flow(name="generation", flow_run_name="{attempt}", validate_parameters=False)
def run_generation(
    recipe: Recipe, attempt: Attempt, human: dict[str, Artifact], history: Sequence[Generation], backends: Backends
) -> Generation:
    """One turn: the last model speaks, its words are curated and mixed, a new model learns and is measured."""
    tag_flow_run(policy=recipe.mix.policy)
    reserve, heldout = human["human_train"], human["human_heldout"]
    withheld = load_protected_sets(attempt, reserve)
    pool = [(past.candidates, past.decisions) for past in history if past.candidates and past.decisions]
    candidates = decisions = None
    excluded_records = find_excluded_records(attempt, reserve, withheld, pool, recipe.curate)
    if history:
        asked = (recipe.prompts, recipe.generate, recipe.seed)
        candidates = generate(attempt, history[-1].model, reserve, *asked, backends, excluded_records, pool)
        decisions = curate(attempt, candidates, reserve, withheld, pool, recipe.curate)
        pool = [*pool, (candidates, decisions)]
    corpus = mix(
        attempt, reserve, pool, recipe.mix, recipe.seed, excluded_records, history[-1].corpus if history else None
    )
    check_contamination(attempt, corpus, withheld, recipe.curate)
    first, last = (history[0].model, history[-1].model) if history else (None, None)
    model = train(attempt, corpus, heldout, first, recipe.train, recipe.seed, backends, last, reserve, pool)
    made = EvalInputs(
        model, corpus, reserve, heldout, candidates, *((history[-1].corpus, history[0].attempt) if history else ())
    )
    forecast(attempt, reserve, recipe.evaluate, loop_spec(recipe), recipe.seed)
    looking = (recipe.evaluate, recipe.train, recipe.generate, recipe.seed)
    metrics = evaluate(attempt, made, *looking, backends, withheld)
    verdict = judge_generation(attempt, [*(past.metrics for past in history), metrics], recipe.gate)
    turn = Generation(attempt, candidates, decisions, corpus, model, metrics, verdict)
    tag_flow_run(verdict=turn.action)
    return turn
