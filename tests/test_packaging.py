"""Guards of the package: imports stay light, recipes load, no machine path is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config.loading import load_recipe, load_site
from tests.support.paths import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "flows/recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_loads_and_is_named_after_its_file(path: Path) -> None:
    recipe = load_recipe(str(path))
    assert recipe.name == path.stem
    assert recipe.description.endswith("?")


def test_the_default_site_loads() -> None:
    assert load_site(None, "elsewhere").store == Path("elsewhere")


_HEAVY = {
    *("prefect", "torch", "vllm", "transformers", "sentence_transformers"),
    *("numba", "scipy", "datasketch", "pandas", "matplotlib", "jsonschema", "jinja2", "aiohttp"),
}


@pytest.mark.processes
@pytest.mark.parametrize(
    "statement",
    [
        "from flows.config.loading import load_recipe; load_recipe('anchor')",
        "import flows.terminal.dry_run",
        "import storage.query.catalog",
        "import flows.terminal.query_output",
    ],
)
def test_reading_a_recipe_and_querying_import_no_heavy_library(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({_HEAVY} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_loop_fits_on_one_screen() -> None:
    text = (ROOT / "flows/evolve.py").read_text()
    body = text[text.index("def evolve") :]
    assert len(body.splitlines()) <= 60


@pytest.mark.processes
def test_the_project_names_no_place_of_the_machine_it_was_made_on() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout: nothing lists which files belong to the project")
    for name in tracked.stdout.split():
        if name.endswith((".py", ".md", ".toml", ".sh", ".json")) and name != "tests/test_packaging.py":
            text = (ROOT / name).read_text()
            # At the beginning of a path: `/proc/1/root/` is a place of every machine.
            assert not re.search(r"(?<!\w)/(work|root)/", text), name


@pytest.mark.xdist_group("house")
def test_the_scheduler_of_a_parallel_run_keeps_groups_of_tests_together(request: pytest.FixtureRequest) -> None:
    # Where it is not, each process starts engines and servers of its own, without a warning.
    dealt_by_group = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@house") == dealt_by_group
