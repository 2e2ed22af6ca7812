"""Stop a run before a generation that its budget does not allow. Costs are counted from the stored artifacts."""

from itertools import groupby

from prefect.events import emit_event

from curation.budget import BudgetSettings, Cost, exceeded_budget
from storage.runs.run import Run
from storage.runs.status import attempt_summaries, last_accepted_generation
from tasks.orchestration.prefect import in_flow_run
from tasks.orchestration.progress import logger


def budget_exceeded(run: Run, generation: int, settings: BudgetSettings) -> str:
    """Return why the budget does not allow this generation; empty if it does, or if it is accepted already."""
    last_accepted = last_accepted_generation(run)
    if last_accepted is None or generation <= last_accepted:
        return ""
    return exceeded_budget(settings, cost_by_generation(run))


def stop_for_budget(run: Run, reason: str) -> None:
    """Record in the journal that the run stops after its last accepted generation, and emit `heirloom.budget.spent`."""
    last_accepted = last_accepted_generation(run) or 0
    run.append("stopped", last_accepted, 1, reason)
    logger.warning("%s · %s", run.name, reason)
    if in_flow_run():
        emit_event(
            "heirloom.budget.spent",
            resource={"prefect.resource.id": f"heirloom.run.{run.name}", "prefect.resource.name": run.name},
            payload={"generation": last_accepted, "reason": reason},
        )


def cost_by_generation(run: Run) -> list[Cost]:
    """Sum up the cost of all attempts at each generation, in tokens, hours, GiB and GPU hours."""
    costs = []
    for generation, group in groupby(attempt_summaries(run), key=lambda attempt: attempt.generation):
        attempts = list(group)
        costs.append(
            Cost(
                generation,
                sum(attempt.tokens for attempt in attempts),
                sum(attempt.work_seconds for attempt in attempts) / 3600,
                sum(attempt.bytes for attempt in attempts) / 2**30,
                sum(attempt.gpu_seconds for attempt in attempts) / 3600,
            )
        )
    return costs
