"""SIGKILL at random instants, each followed by the same command: nothing lost, nothing double, nothing half."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.operations.kills import bucket_scene, command, folder_scene, half, published, stored, survive
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.runs.run import Run
from storage.runs.status import run_state
from tasks.orchestration.prefect import without_prefect
from tests.conftest import prefect_free_environment
from tests.support.waiting import until


def _file(recipe: Recipe, tmp_path: Path, **changes: object) -> Path:
    """The recipe as a file; JSON's values are TOML's, a table a line."""
    path = tmp_path / f"{recipe.name}.toml"
    content = recipe.model_dump(mode="json", exclude_unset=True) | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if not isinstance(value, dict)]
    for table, values in content.items():
        if isinstance(values, dict):
            lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.processes
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    file = _file(recipe, tmp_path)
    outcome = survive(folder_scene(ingested.store, tmp_path / "work", file, with_prefect=False), 3, 1)
    assert outcome.failed == []
    assert (outcome.half, outcome.changed, outcome.different) == ([], [], [])
    assert outcome.kills == 3
    assert outcome.finished >= 1


@pytest.mark.processes
def test_a_command_that_is_killed_leaves_no_server_behind_and_goes_on(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    whole = Site(store=Path(shutil.copytree(ingested.store, tmp_path / "whole")))
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), whole)
    begun = Command(
        command(_file(recipe, tmp_path, num_generations=1), str(ingested.store), with_prefect=True), tmp_path / "home"
    )
    begun.killed_once(lambda: any(ingested.store.glob("runs/tiny/generation=0/attempt=1/model")))
    before = stored(ingested.store)
    assert before and half(ingested.store) == []
    begun.whole()
    assert before.items() <= published(ingested.store).items()
    assert published(ingested.store) == published(whole.store)
    assert half(ingested.store) == []
    assert run_state(Run(ingested.store, "tiny")) == "finished"


@pytest.mark.processes
def test_a_command_that_is_killed_while_its_server_begins_leaves_none_behind(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    begun = Command(command(_file(recipe, tmp_path), str(ingested.store), with_prefect=True), home)
    begun.killed_once(lambda: "server_process" in _begun_in(home))


@dataclass(frozen=True)
class Command:
    """A command without a server that is set, and a home of its own for the one it begins."""

    words: list[str]
    home: Path

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.words, env=prefect_free_environment() | {"PREFECT_HOME": str(self.home)}, stderr=subprocess.DEVNULL
        )

    def whole(self) -> None:
        """To its end."""
        assert self._begin().wait() == 0

    def killed_once(self, come: Callable[[], bool]) -> None:
        """Killed a second after that has come; the server that it began is gone soon."""
        process = self._begin()
        until(come, "the moment of the kill")
        time.sleep(1)
        process.kill()
        process.wait()
        until(lambda: not _begun_in(self.home), "the end of the server")


def _begun_in(home: Path) -> str:
    """The command lines of all processes whose environment names this home of Prefect's."""
    found = ""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PREFECT_HOME={home}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found += (path / "cmdline").read_text()
    return found


def test_a_run_in_a_bucket_survives_kills_as_one_in_a_folder_does(
    ingested: Site, recipe: Recipe, tmp_path: Path, bucket_url: str
) -> None:
    scene = bucket_scene(ingested.store, tmp_path, bucket_url, _file(recipe, tmp_path, num_generations=2))
    outcome = survive(scene, 2, 6)  # both past the imports
    assert outcome.failed == []
    assert (outcome.half, outcome.changed, outcome.different) == ([], [], [])
    assert outcome.finished >= 1
