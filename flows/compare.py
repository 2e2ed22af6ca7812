"""Several recipes on the same human text, at the same time, and one report.

heirloom compare naive guarded
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from heirloom.errors import HeirloomError
from tasks.backends.registry import open_backends
from tasks.orchestration.prefect import flow
from tasks.orchestration.runners import map_pieces
from tasks.reporting.report import report


@flow(name="compare", flow_run_name="{name}")
def compare(recipes: Sequence[Recipe], site: Site, name: str = "compare") -> Path:
    """Run every recipe, as many at once as there are trainers, and write one report over all of them.

    Returns the folder of the report.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise HeirloomError(f"recipes that are compared need names of their own; found {', '.join(names)}")
    with (
        open_backends(site.resources, site.synced().store / "logs", map_pieces),
        ThreadPoolExecutor(len(recipes)) as arms,
    ):
        # Each arm is a child run of this one, which Prefect knows from the context.
        started = [arms.submit(copy_context().run, evolve, recipe, site) for recipe in recipes]
        for arm in started:
            arm.result()
    return report(site.store, names, name)
