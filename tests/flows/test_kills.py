"""SIGKILL at random instants, each followed by the same command: nothing lost, nothing double, nothing half."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.kills import bucket_scene, command, folder_scene, survive
from flows.recipe import Recipe, Site


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


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    file = _file(recipe, tmp_path)
    told = survive(folder_scene(ingested.store, tmp_path / "work", file, coat=False), 3, 1)
    assert told.failed == []
    assert (told.half, told.changed, told.different) == ([], [], [])
    assert told.kills == 3
    assert told.finished >= 1


def test_a_flow_that_is_killed_goes_on_under_prefect(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    file = _file(recipe, tmp_path, generations=1)
    told = survive(folder_scene(ingested.store, tmp_path / "work", file, coat=True), 1, 2)
    assert told.failed == []
    assert (told.half, told.changed, told.different) == ([], [], [])


def test_a_command_that_is_killed_while_its_server_begins_leaves_none_behind(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    words = command(_file(recipe, tmp_path), str(ingested.store), coat=True)
    home = str(tmp_path / "home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    process = subprocess.Popen(words, env=environment | {"PREFECT_HOME": home}, stderr=subprocess.DEVNULL)
    _wait(lambda: "uvicorn" in _begun_in(home), 120)
    # It answers after some seconds.
    time.sleep(1)
    process.kill()
    process.wait()
    _wait(lambda: not _begun_in(home), 120)


def _begun_in(home: str) -> str:
    """The command lines of all processes whose environment names this home of Prefect's."""
    found = ""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PREFECT_HOME={home}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found += (path / "cmdline").read_text()
    return found


def _wait(come: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_run_in_a_bucket_survives_kills_as_one_in_a_folder_does(
    ingested: Site, recipe: Recipe, tmp_path: Path, bucket_url: str
) -> None:
    scene = bucket_scene(ingested.store, tmp_path, bucket_url, _file(recipe, tmp_path, generations=2))
    told = survive(scene, 2, 3)
    assert told.failed == []
    assert (told.half, told.changed, told.different) == ([], [], [])
    assert told.finished >= 1
