"""The flows as Prefect deployments. Each flow run continues where the last one ended.

`prefect.yaml` deploys them, `heirloom serve` serves them. Importing this module loads neither torch nor vLLM.
"""

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar

from prefect import flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.runtime import flow_run
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType
from pydantic import Field

from curation.splitting import IngestSettings
from flows.compare import compare as compare_flow
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve as evolve_flow
from flows.failures import shorten_tracebacks
from flows.human_review import ReviewInProgressError
from flows.ingest import ingest as ingest_flow
from flows.orchestration.environment import forward_logs
from flows.orchestration.forms import FIELD_ORDER, RecipeForm, SiteForm
from heirloom.errors import HeirloomError
from storage.names import Name
from storage.runs.run import BusyError, Run
from storage.runs.status import last_accepted_generation

logger = logging.getLogger("flows")

forward_logs()
shorten_tracebacks()

_DEFAULT_SITE, _DEFAULT_INGEST = Site(), IngestSettings()
_LOCK_POLL_SECONDS = 2
_MAX_PARAMETER_BYTES = 524_288
"""Default of PREFECT_SERVER_API_MAX_PARAMETER_SIZE."""


@flow(name="ingest", flow_run_name="{name}", persist_result=False)
def ingest(
    sources: list[str],
    name: Name,
    settings: Annotated[IngestSettings, FIELD_ORDER] = _DEFAULT_INGEST,
    site: SiteForm = _DEFAULT_SITE,
) -> dict[str, int]:
    """Ingest human text: deduplicate it and split it into training and held-out sets.

    Documents that were ingested before add nothing.

    Args:
        sources: files, folders or patterns; hf:NAME; or python-docs
        name: name of the dataset
        settings: how text is read, cut and split
        site: where the store is
    """
    return _without_flow_wrapper(ingest_flow)(sources, name, settings, site)


@flow(name="evolve", flow_run_name="{recipe.name}", persist_result=False)
def add_generations(
    recipe: RecipeForm, site: SiteForm = _DEFAULT_SITE, num_generations: Annotated[int, Field(ge=0)] = 1
) -> str:
    """Add generations to a run.

    Idempotent: a flow run that is retried, late or triggered twice produces each generation once.

    Args:
        recipe: settings of the run
        site: where the store is, and its resources
        num_generations: number of generations to add; 0 continues to the recipe's own last generation
    """
    if num_generations:
        run = Run(site.synced().store, recipe.name)
        target = target_generation(run, num_generations, flow_run.scheduled_start_time)
        recipe = recipe.model_copy(update={"num_generations": target})
    evolve_run = partial(_without_flow_wrapper(evolve_flow), recipe, site)
    return _wait_for_turn(evolve_run, Run(site.store, recipe.name))


@flow(name="compare", flow_run_name="{name}", persist_result=False)
def compare(recipes: list[RecipeForm], site: SiteForm = _DEFAULT_SITE, name: Name = "compare") -> str:
    """Run several recipes on the same human text, in parallel, and write one report; return its folder.

    Args:
        recipes: two or more, each with a name of its own
        site: where the store is
        name: name of the report
    """
    return str(_without_flow_wrapper(compare_flow)(recipes, site, name))


def target_generation(run: Run, num_generations: int, scheduled_at: datetime) -> int:
    """Return the last generation that a flow run should produce.

    It counts from the last generation that was accepted before the flow run was due, so that two flow runs with the
    same due time, or one that is started again, have the same target.
    """
    accepted = [entry for entry in run.journal() if entry["event"] == "accepted"] if run.exists() else []
    before = [entry["generation"] for entry in accepted if entry["time"] < scheduled_at.timestamp()]
    target = max(before, default=-1) + num_generations
    last_accepted = last_accepted_generation(run) if accepted else None
    return target if last_accepted is None else max(target, last_accepted)


def serve_deployments(recipe: Recipe, site: Site, schedule: Schedule | None) -> None:
    """Serve the three flows from this process until it ends; `recipe` and `site` are their default parameters.

    Raises:
        HeirloomError: the recipe is too large for the parameters of a deployment.
    """
    one_at_a_time = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    shared: dict[str, Any] = {"tags": ["heirloom"], "entrypoint_type": EntrypointType.MODULE_PATH}
    site_values = site.model_dump(mode="json", exclude_defaults=True)
    recipe_values = recipe.model_dump(mode="json", exclude_defaults=True)
    # Written out even where they are defaults: the form must show the name, the dataset and the whole of [train].
    recipe_values |= {
        "name": recipe.name,
        "dataset": recipe.dataset,
        "train": recipe.train.model_dump(mode="json"),
    }
    size = len(json.dumps({"recipe": recipe_values, "site": site_values}).encode())
    if size > _MAX_PARAMETER_BYTES:
        raise HeirloomError(
            f"Recipe {recipe.name} has {size:,} bytes, and a Prefect server accepts {_MAX_PARAMETER_BYTES:,} as the "
            "parameters of a deployment. Shorten its lists, such as `prompts.attributes`, or use `heirloom run`, which "
            "has no limit."
        )
    serve(
        RunnerDeployment.from_flow(ingest, "served", parameters={"site": site_values}, **shared),
        RunnerDeployment.from_flow(
            add_generations,
            "served",
            parameters={"recipe": recipe_values, "site": site_values},
            schedules=[schedule] if schedule else None,
            concurrency_limit=one_at_a_time,
            **shared,
        ),
        RunnerDeployment.from_flow(compare, "served", parameters={"site": site_values}, **shared),
    )


P = ParamSpec("P")
R = TypeVar("R")


def _without_flow_wrapper(flow_function: Callable[P, R]) -> Callable[P, R]:
    """Return the plain function of a flow: the deployment's own flow run stands for it."""
    return flow_function.__wrapped__  # type: ignore[attr-defined, no-any-return]


def _wait_for_turn(evolve_run: Callable[[], str], run: Run) -> str:
    """Evolve the run once no other process writes it.

    The other writer can be a copy of this flow run that was marked as crashed. If another flow run is suspended for a
    review of this run, return "review" without doing anything.
    """
    while True:
        try:
            return evolve_run()
        except ReviewInProgressError as error:
            logger.warning("%s. Nothing to do until then.", str(error).rstrip("."))
            return "review"
        except BusyError as error:
            logger.warning("%s. Waiting for it.", str(error).rstrip("."))
            while run.lock_holder():
                time.sleep(_LOCK_POLL_SECONDS)
