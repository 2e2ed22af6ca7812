"""The flows as deployments: the target of a flow run, and its form."""

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.orchestration.deployments import add_generations, ingest, target_generation
from storage.query.catalog import open_catalog
from storage.runs.run import Run
from tests.conftest import human_texts
from tests.support.paths import ROOT

BEFORE = datetime(2020, 1, 1, tzinfo=UTC)


def accepted(run: Run) -> list[int]:
    return [entry["generation"] for entry in run.journal() if entry["event"] == "accepted"]


def at(due: datetime, recipe: Recipe, site: Site, more: int = 1) -> str:
    """Run the deployed flow as a server does that had it due at this time."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from prefect.states import Scheduled

    parameters = {"recipe": recipe, "site": site, "num_generations": more}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(add_generations, parameters=parameters, state=Scheduled(scheduled_time=due))
    return str(run_flow(add_generations, flow_run=run, parameters=parameters))


def test_the_target_of_a_new_run_counts_from_generation_0(site: Site) -> None:
    assert target_generation(Run(site.store, "new"), 1, datetime.now(UTC)) == 0
    assert target_generation(Run(site.store, "new"), 3, datetime.now(UTC)) == 2


def test_it_goes_on_from_the_last_generation_of_when_it_was_due(finished_store: Path) -> None:
    run = Run(finished_store, "tiny")
    assert target_generation(run, 1, datetime.now(UTC)) == 4
    assert target_generation(run, 2, datetime.now(UTC)) == 5
    assert target_generation(run, 1, BEFORE) == 3
    (second,) = [entry["time"] for entry in run.journal() if (entry["event"], entry["generation"]) == ("accepted", 2)]
    assert target_generation(run, 1, datetime.fromtimestamp(second, UTC) + timedelta(milliseconds=1)) == 3


@pytest.mark.usefixtures("prefect_server")
def test_each_due_time_adds_a_generation_and_takes_in_what_was_ingested_since(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    run = Run(ingested.store, "tiny")
    at(datetime.now(UTC), recipe, ingested)
    assert accepted(run) == [0]
    due = datetime.now(UTC)
    at(due, recipe, ingested)
    assert accepted(run) == [0, 1]
    # The same again, as after a crash, and one that was due meanwhile: made is made.
    at(due, recipe, ingested)
    assert accepted(run) == [0, 1]
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(60, seed=9)))
    ingest([str(more)], "letters", site=ingested)
    at(datetime.now(UTC), recipe, ingested)
    assert accepted(run) == [0, 1, 2]
    pinned = open_catalog(ingested.store).sql("select generation, snapshot from generations order by all").fetchall()
    assert pinned == [(0, 1), (1, 1), (2, 2)]


@pytest.mark.usefixtures("prefect_server")
def test_a_second_copy_waits_for_the_first_and_makes_nothing_again(ingested: Site, recipe: Recipe) -> None:
    run, due = Run(ingested.store, "tiny"), datetime.now(UTC)
    done: list[str] = []
    with run.lock():
        copies = [threading.Thread(target=lambda: done.append(at(due, recipe, ingested))) for _ in range(2)]
        for copy in copies:
            copy.start()
        time.sleep(2)
        assert done == []
    for copy in copies:
        copy.join(600)
    assert done == ["go", "go"] or done == ["warn", "warn"]
    assert accepted(run) == [0]


def test_every_form_is_in_source_order_with_help() -> None:
    schema = add_generations.parameters.model_dump()
    recipe = schema["definitions"]["Recipe"]["properties"]
    assert [recipe[name]["position"] for name in Recipe.model_fields] == list(range(len(Recipe.model_fields)))
    fields = [
        (title, name, field) for title, form in schema["definitions"].items() for name, field in form_fields(form)
    ]
    assert len(fields) > 60
    assert [(title, name) for title, name, field in fields if "position" not in field] == []
    assert schema["properties"]["num_generations"]["description"].startswith("number of generations to add")


def form_fields(form: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(form.get("properties", {}).items())


@pytest.mark.processes
def test_deploying_imports_neither_torch_nor_vllm() -> None:
    heavy = "{'torch', 'vllm', 'transformers', 'sentence_transformers'}"
    code = f"import sys, flows.orchestration.deployments; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
