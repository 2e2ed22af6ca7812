"""Whether a run can afford its next generation: what it has cost is counted from what it has stored."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from prefect.events import emit_event

from curation.budget import BudgetSettings, Cost, exceeded_budget
from storage.runs.run import Run
from storage.runs.status import attempt_summaries, last_accepted_generation
from tasks.orchestration.prefect import in_flow_run
from tasks.orchestration.progress import logger


def within_budget(run: Run, numbers: Sequence[int], settings: BudgetSettings) -> Iterator[int]:
    """The generations of `numbers` that are finished or can be afforded; the journal says why there are no more."""
    for number in numbers:
        reached = last_accepted_generation(run)
        if reached is not None and number > reached and (reason := exceeded_budget(settings, cost_by_generation(run))):
            run.append("stopped", reached, 1, reason)
            logger.warning("%s · %s", run.name, reason)
            if in_flow_run():
                emit_event(
                    "heirloom.budget.spent",
                    resource={"prefect.resource.id": f"heirloom.run.{run.name}", "prefect.resource.name": run.name},
                    payload={"generation": reached, "reason": reason},
                )
            return
        yield number


def cost_by_generation(run: Run) -> list[Cost]:
    """What each generation of a run has cost so far."""
    return [
        Cost(
            generation,
            sum(turn.tokens for turn in tried),
            sum(turn.work_seconds for turn in tried) / 3600,
            sum(turn.bytes for turn in tried) / 2**30,
            sum(turn.gpu_seconds for turn in tried) / 3600,
        )
        for generation, group in groupby(attempt_summaries(run), key=lambda turn: turn.generation)
        for tried in [list(group)]
    ]
