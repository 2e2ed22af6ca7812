"""Run several recipes on the same human text in parallel, and write one report: `heirloom compare naive guarded`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from heirloom.errors import HeirloomError
from storage.names import check_name
from tasks.backends.registry import open_backends
from tasks.orchestration.prefect import flow
from tasks.orchestration.runners import map_pieces
from tasks.reporting.report import report


@flow(name="compare", flow_run_name="{name}")
def compare(recipes: Sequence[Recipe], site: Site, name: str = "compare") -> Path:
    """Run all recipes, in parallel as far as there are trainers, and write one report on them; return its folder.

    Raises:
        HeirloomError: two recipes have the same name, or `name` cannot be one of a folder.
    """
    check_name(name, "a report")
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise HeirloomError(f"recipes to compare need different names; found {', '.join(names)}")
    with (
        open_backends(site.resources, site.synced().store / "logs", map_pieces) as backends,
        ThreadPoolExecutor(len(recipes)) as threads,
    ):
        # The copied context makes each of them a child flow run of this one.
        futures = [threads.submit(copy_context().run, evolve, recipe, site) for recipe in recipes]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            # The threads cannot be interrupted. Without their processes they end, and the block can be left.
            backends.close()
            raise
    return report(site.store, names, name)
