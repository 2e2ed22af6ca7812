"""The flows as a server runs them: by a form, on a schedule, each run going on from where the last one ended.

`prefect.yaml` deploys them from here, `heirloom serve` serves them. Nothing here imports torch or vLLM.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from prefect import flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runtime import flow_run
from prefect.types.entrypoint import EntrypointType
from pydantic import Field

from curation.splitting import IngestSettings
from flows.cli.environment import forward_logs
from flows.compare import compare as comparing
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve as evolving
from flows.human_review import ReviewInProgressError
from flows.ingest import ingest as ingesting
from flows.orchestration.forms import FIELD_ORDER, RecipeForm, SiteForm
from storage.names import Name
from storage.runs.run import BusyError, Run
from storage.runs.status import last_accepted_generation

logger = logging.getLogger("flows")


forward_logs()


_HERE, _AS_IT_COMES = Site(), IngestSettings()


@flow(name="ingest", flow_run_name="{name}", persist_result=False)
def ingest(
    sources: list[str],
    name: Name,
    settings: Annotated[IngestSettings, FIELD_ORDER] = _AS_IT_COMES,
    site: SiteForm = _HERE,
) -> dict[str, int]:
    """Take in human text: drop what repeats, hold a part out for ever, keep the rest as the reserve.

    What was ingested already adds nothing.

    Args:
        sources: files, folders or patterns; hf:NAME; or python-docs
        name: name of the human text
        settings: how text is read, cut and split
        site: where the store is
    """
    return _plain(ingesting)(sources, name, settings, site)


@flow(name="evolve", flow_run_name="{recipe.name}", persist_result=False)
def add_generations(
    recipe: RecipeForm, site: SiteForm = _HERE, num_generations: Annotated[int, Field(ge=0)] = 1
) -> str:
    """Add generations to a run, from where it stood when this flow run was due.

    Whatever is triggered twice, late, or again after a crash makes no generation twice.

    Args:
        recipe: what is made; a run is one recipe
        site: where it is made
        num_generations: generations to add; 0 goes to the recipe's own last generation
    """
    if num_generations:
        run = Run(site.synced().store, recipe.name)
        recipe = recipe.model_copy(
            update={"num_generations": target_generation(run, num_generations, flow_run.scheduled_start_time)}
        )
    return _in_turn(lambda: _plain(evolving)(recipe, site), Run(site.store, recipe.name))


@flow(name="compare", flow_run_name="{name}", persist_result=False)
def compare(recipes: list[RecipeForm], site: SiteForm = _HERE, name: str = "compare") -> str:
    """Run several recipes on the same human text, at the same time, and write one report; returns its folder.

    Args:
        recipes: two or more, each with a name of its own
        site: where the store is
        name: name of the report
    """
    return str(_plain(comparing)(recipes, site, name))


def target_generation(run: Run, num_generations: int, scheduled_at: datetime) -> int:
    """The generation that a flow run goes to: `num_generations` beyond the last one accepted before it was due.

    So two flow runs that were due at once, or one that starts again, ask for the same generation.
    """
    accepted = [entry for entry in run.journal() if entry["event"] == "accepted"] if run.exists() else []
    before = [entry["generation"] for entry in accepted if entry["time"] < scheduled_at.timestamp()]
    there = last_accepted_generation(run) if accepted else -1
    return max(max(before, default=-1) + num_generations, -1 if there is None else there)


def serve_deployments(recipe: Recipe, site: Site, cron: str | None) -> None:
    """Serve the three flows from this process until it is ended; `recipe` and `site` fill the form."""
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    shared: dict[str, Any] = {"tags": ["heirloom"], "entrypoint_type": EntrypointType.MODULE_PATH}
    where = site.model_dump(mode="json", exclude_defaults=True)
    asked = {"recipe": recipe.model_dump(mode="json", exclude_defaults=True), "site": where}
    asked["recipe"] |= {"name": recipe.name, "dataset": recipe.dataset, "train": recipe.train.model_dump(mode="json")}
    serve(
        RunnerDeployment.from_flow(ingest, "served", parameters={"site": where}, **shared),
        RunnerDeployment.from_flow(
            add_generations, "served", parameters=asked, cron=cron, concurrency_limit=one, **shared
        ),
        RunnerDeployment.from_flow(compare, "served", parameters={"site": where}, **shared),
    )


def _plain(worn: Callable[..., Any]) -> Callable[..., Any]:
    """The function under the coat: its deployment is the flow run already."""
    return worn.__wrapped__  # type: ignore[attr-defined, no-any-return]


def _in_turn(work: Callable[[], str], run: Run) -> str:
    """Do it when nobody else writes this run: a copy of this flow run may, that was taken for dead.

    Where another one is suspended over a review, it is its turn.
    """
    while True:
        try:
            return work()
        except ReviewInProgressError as asked:
            logger.warning("%s; there is nothing to do before it", asked)
            return "review"
        except BusyError as busy:
            logger.warning("%s; waiting for it", busy)
            while run.lock_holder():
                time.sleep(2)
