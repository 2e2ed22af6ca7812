"""Run a command's flows with a progress panel and a Prefect server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.config.recipe import Recipe
from flows.orchestration.local_server import prefect_server
from flows.terminal.console import console


@contextmanager
def _with_progress(recipes: list[Recipe]) -> Iterator[Any]:
    """A panel, and a Prefect server of its own where none is set; flows are imported within, while that begins."""
    from flows.terminal.progress import ProgressPanel

    with ProgressPanel(console, {recipe.name: recipe.num_generations for recipe in recipes}) as panel, prefect_server():
        yield panel
