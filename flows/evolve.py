"""The generation loop, and the stages of one generation in order.

heirloom run anchor --set num_generations=10
"""

from contextlib import nullcontext
from functools import partial

from flows.config.memory import require_memory
from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import explicit_fields, resume_recipe
from flows.config.site import Site
from flows.controller import LoopController
from flows.failures import recorded_failure
from flows.human_review import require_review_server, wait_for_review
from storage.datasets.eval_sets import require_eval_sets
from storage.datasets.snapshots import newest_snapshot
from storage.runs.fork import inherited_attempts
from storage.runs.run import Run
from storage.runs.status import journal_entry, run_status
from tasks.backends.registry import open_backends
from tasks.budget import budget_exceeded, stop_for_budget
from tasks.context import CuratedCandidates, Generation, GenerationHistory, HumanData, StageContext
from tasks.curation.curate import curate
from tasks.curation.decontaminate import check_contamination, count_usable, find_excluded_records
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.forecast import forecast
from tasks.evaluation.inputs import EvalInputs
from tasks.gate import judge_generation, publish_collapse_tests
from tasks.generation.generate import generate
from tasks.ingestion.ingest import load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import flow, with_state, with_task_runner, without_prefect
from tasks.orchestration.progress import logger
from tasks.orchestration.runners import map_pieces, task_runner_for
from tasks.reporting.events import emit_generation_event, log_generation, tag_flow_run
from tasks.training.train import train
from tasks.verification.verify import verify

_END_STATES = {"stop": "Stopped", "roll_back": "RolledBack"}
"""Name of the final state of a flow run by the action that ended the run before its last generation."""


def _require_runnable(recipe: Recipe, site: Site) -> None:
    """Refuse what cannot run before anything is written."""
    recipe.import_user_code()
    newest_snapshot(site.store, recipe.dataset)
    require_eval_sets(site.store, recipe.dataset, recipe.evaluate.eval_sets)
    require_review_server(recipe.review)
    require_memory(recipe, site)


def _end_for_budget(run: Run, action: str, reason: str) -> str:
    """Return the action in a final state that names the spent budget."""
    stop_for_budget(run, reason)
    tag_flow_run(verdict="budget_spent")
    return with_state(action, "BudgetSpent", reason)


def _end_early(run: Run, action: str) -> str:
    """Return the action in a final state with a name and a reason, if it ended the run before its last generation."""
    if action not in _END_STATES:
        return action
    reason = run_status(run).reason
    logger.warning("%s · %s: %s", run.name, _END_STATES[action], reason)
    tag_flow_run(verdict=action)
    return with_state(action, _END_STATES[action], reason)


@flow(name="evolve", flow_run_name="{recipe.name}")
def evolve(recipe: Recipe, site: Site) -> str:
    """Run a recipe until `recipe.num_generations`, from the generation where the run stands.

    A flow run that the gate, a reviewer or the budget ended early is completed under a name of its own, `Stopped`,
    `RolledBack` or `BudgetSpent`, with the reason as its message.

    Returns:
        The action of the last verdict: `stop` or `roll_back` if the gate or a reviewer ended the run early.
    """
    run = Run(site.synced().store, recipe.name)
    explicit, recipe = explicit_fields(recipe), resume_recipe(recipe, run)
    _require_runnable(recipe, site)
    with run.lock(), open_backends(site.resources, site.store / "logs", map_pieces) as backends:
        run.initialize(recipe.model_dump(mode="json"), MUTABLE_FIELDS, site.model_dump(mode="json"), explicit)
        with recorded_failure(run):
            backends.preload(recipe.train, recipe.generate)
            controller = LoopController(run, recipe, [Generation.load(attempt) for attempt in inherited_attempts(run)])
            task_runner = task_runner_for(site.resources.ray)
            while attempt := controller.next_attempt():
                if reason := budget_exceeded(run, attempt.generation, recipe.budget):
                    return _end_for_budget(run, controller.action, reason)
                ctx = StageContext(attempt=attempt, recipe=controller.recipe, backends=backends)
                human = load_pinned_human(attempt, recipe.dataset)
                # Accepted generations are replayed without Prefect, so they create no new task runs.
                is_accepted = journal_entry(attempt, "accepted") is not None
                with without_prefect() if is_accepted else nullcontext():
                    history = GenerationHistory(tuple(controller.accepted))
                    generation = with_task_runner(run_generation, task_runner)(ctx, human, history)
                emit_generation_event(attempt, generation.action, generation.reasons)
                if not is_accepted:
                    log_generation(attempt, generation.action, generation.reasons)
                tag_flow_run(policy=recipe.mix.policy, verdict=generation.action)
                review = wait_for_review(generation, recipe.review, partial(controller.validate_review, generation))
                controller.apply(generation, count_usable(human.train, attempt), review)
    return _end_early(run, controller.action)


@flow(name="generation", flow_run_name="{ctx.attempt}", validate_parameters=False)
def run_generation(ctx: StageContext, human: HumanData, history: GenerationHistory) -> Generation:
    """Run every stage of one attempt. Generation 0 trains on human records alone and has no candidates."""
    tag_flow_run(policy=ctx.recipe.mix.policy)
    excluded = find_excluded_records(ctx, human, history)
    curated = None
    if history.last:
        candidates = generate(ctx, human, history, history.last.model, excluded)
        check_results = verify(ctx, human, candidates)
        decisions = curate(ctx, human, history, candidates, check_results)
        curated = CuratedCandidates(candidates=candidates, decisions=decisions, check_results=check_results)
    corpus = mix(ctx, human, history, curated, excluded)
    check_contamination(ctx, human, corpus)
    model = train(ctx, human, history, corpus, curated)
    forecast(ctx, human)
    metrics = evaluate(ctx, EvalInputs(human=human, history=history, corpus=corpus, model=model, curated=curated))
    publish_collapse_tests(ctx, history, metrics)
    verdict = judge_generation(ctx, history, metrics)
    generation = Generation(
        attempt=ctx.attempt, curated=curated, corpus=corpus, model=model, metrics=metrics, verdict=verdict
    )
    tag_flow_run(verdict=generation.action)
    return generation
