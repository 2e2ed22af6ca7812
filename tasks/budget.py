"""Whether a run can afford its next generation: what it has cost is counted from what it has stored."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from prefect.events import emit_event

from curation.budget import BudgetSettings, Spent, overspent
from storage.runs.run import Run
from storage.runs.status import furthest, turns
from tasks.orchestration.prefect import watched
from tasks.orchestration.progress import logger


def affordable(run: Run, numbers: Sequence[int], settings: BudgetSettings) -> Iterator[int]:
    """The generations of `numbers` that are finished or can be afforded; the journal says why there are no more."""
    for number in numbers:
        reached = furthest(run)
        if reached is not None and number > reached and (reason := overspent(settings, spent(run))):
            run.note("stopped", reached, 1, reason)
            logger.warning("%s · %s", run.name, reason)
            if watched():
                emit_event(
                    "heirloom.budget.spent",
                    resource={"prefect.resource.id": f"heirloom.run.{run.name}", "prefect.resource.name": run.name},
                    payload={"generation": reached, "reason": reason},
                )
            return
        yield number


def spent(run: Run) -> list[Spent]:
    """What each generation of a run has cost so far."""
    return [
        Spent(
            generation,
            sum(turn.tokens for turn in tried),
            sum(turn.seconds for turn in tried) / 3600,
            sum(turn.bytes for turn in tried) / 2**30,
            sum(turn.card_seconds for turn in tried) / 3600,
        )
        for generation, group in groupby(turns(run), key=lambda turn: turn.generation)
        for tried in [list(group)]
    ]
