"""A person's decision about a generation: asked for, waited for, obeyed, and remembered."""

import threading
import time
from typing import Any

import pytest
from prefect.exceptions import NotPausedError
from prefect.flow_runs import resume_flow_run

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.human_review import require_review_server
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.runs.run import Run
from storage.runs.status import run_state
from tasks.orchestration.prefect import without_prefect


def _recipe(recipe: Recipe, **review: Any) -> Recipe:
    # No waiting for a day in a test whose answers do not come.
    asked = {"when": "always", "timeout_hours": 0.1, **review}
    small = {"num_generations": 1, "mix": {"policy": "accumulate"}, "review": asked}
    return Recipe.model_validate(recipe.model_dump() | small)


def _answering(site: Site, answers: list[dict[str, Any]]) -> tuple[threading.Thread, list[str]]:
    """Answer each form that comes up, as the API does, with the next of `answers`; the texts of the forms are kept."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    heads = list[str]()
    # Prefect's own client has the server's secret and its token against forged requests. A server on a busy machine may
    # take longer than the five seconds that httpx waits.
    client = get_client(sync_client=True, httpx_settings={"timeout": 60})._client

    def work() -> None:
        until = time.monotonic() + 900
        while answers and time.monotonic() < until:
            body = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}, "name": {"any_": ["tiny"]}}}
            for run in client.post("/flow_runs/filter", json=body).json():
                key = run["state"]["state_details"]["run_input_keyset"]["description"]
                try:
                    head = client.get(f"/flow_runs/{run['id']}/input/{key}")
                    answer = client.post(f"/flow_runs/{run['id']}/resume", json={"run_input": answers[0]}).json()
                except PrefectHTTPStatusError:
                    # It is paused, and the text of its form is not there yet.
                    continue
                # A form that is not whole yet refuses every answer, and SQLite may be locked; a person would press
                # again.
                if answer.get("status") == "ACCEPT":
                    heads.append(head.json())
                    answers.pop(0)
                    break
            time.sleep(0.3)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, heads


@pytest.mark.usefixtures("prefect_server")
def test_a_generation_is_made_again_and_what_was_rejected_is_in_no_later_corpus(ingested: Site, recipe: Recipe) -> None:
    ((human,),) = open_catalog(ingested.store).sql("select id from human_train order by id limit 1").fetchall()
    answers: list[dict[str, Any]] = [
        {"decision": "redo", "rejected_ids": ["h-none"]},
        {"decision": "redo", "human_fraction": 0.25, "rejected_ids": [human], "reason": "too much machine"},
        {},
    ]
    thread, heads = _answering(ingested, answers)
    assert evolve(_recipe(recipe), ingested) in ("go", "warn")
    thread.join(60)
    catalog = open_catalog(ingested.store)
    reviews = (
        "select attempt, decision, reviewer, human_fraction, rejected_ids, reason from journal where event = "
        "'reviewed' order by 1"
    )
    assert catalog.sql(reviews).fetchall() == [
        (1, "redo", "person", 0.25, [human], "too much machine"),
        (2, "accept", "person", None, [], ""),
    ]
    assert catalog.sql("select attempt, accepted from generations_all_attempts where generation = 1").fetchall() == [
        (1, False),
        (2, True),
    ]
    held = (
        f"select attempt, count(*) filter (id = '{human}') from corpus_all_attempts where generation = 1 group by all "
        "order by 1"
    )
    assert catalog.sql(held).fetchall() == [(1, 1), (2, 0)]
    why = f"select filter, reason from excluded_records where id = '{human}' and generation = 1"
    assert catalog.sql(why).fetchall() == [("review", "rejected in the review of generation 1")]
    share = "select human_fraction from generations where generation = 1"
    assert catalog.sql(share).fetchall() == [(pytest.approx(0.25, abs=0.01),)]
    assert "- `g001-" in heads[0] and "has no record h-none" in heads[1]
    assert verify(ingested.store).errors == ()
    # The journal answers where the same run is gone through again.
    assert evolve(_recipe(recipe), ingested) in ("go", "warn")


@pytest.mark.usefixtures("prefect_server")
def test_after_the_timeout_the_default_decision_applies_even_if_the_server_pauses_late(
    ingested: Site, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def resume(*arguments: Any, **named: Any) -> None:
        tried.append(arguments)
        if len(tried) < 3:
            raise NotPausedError
        resume_flow_run(*arguments, **named)

    monkeypatch.setattr("flows.human_review.resume_flow_run", resume)
    assert evolve(_recipe(recipe, timeout_hours=2 / 3600, default_decision="stop"), ingested) == "stop"
    assert "stopped in the review by time limit: no answer within" in run_state(Run(ingested.store, "tiny"))
    assert len(tried) >= 3


def test_a_review_needs_a_prefect_server(recipe: Recipe) -> None:
    with without_prefect(), pytest.raises(ValueError, match="no Prefect server is set"):
        require_review_server(_recipe(recipe).review)
    require_review_server(recipe.review)
