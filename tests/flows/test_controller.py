"""What follows from a verdict, through Prefect and as SQL sees it: a step back, a redo that helps, an end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.splitting import IngestSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.controller import LoopController
from flows.evolve import evolve
from storage.maintenance.gc import find_gc_candidates
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.runs.run import Run
from storage.runs.status import last_accepted_generation, run_state
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.report import report
from tests.support.waiting import until


def _recipe(recipe: Recipe, limit: dict[str, Any], **more: Any) -> Recipe:
    changed = {
        "curate": {"filters": []},
        "mix": {"policy": "fixed-fraction", "human_fraction": 0.0},
        "gate": {"limits": [limit], **more.pop("gate", {})},
        **more,
    }
    return Recipe.model_validate(recipe.model_dump() | changed)


_RISING = {"metric": "perplexity", "at_most": 1.2}


_GateEvents = Callable[[int], list[tuple[str, str, int]]]


@pytest.fixture
def watched(prefect_server: None) -> Iterator[_GateEvents]:
    """Event, run and generation of so many verdicts, by Prefect's recorder in place of the socket to its server."""
    from prefect.events.clients import AssertingEventsClient
    from prefect.events.worker import EventsWorker

    def gate_events() -> list[tuple[str, str, int]]:
        every = [event for client in AssertingEventsClient.all for event in client.events]
        ours = [event for event in every if event.event.startswith("heirloom.gate.")]
        return [(event.event, event.resource.id, event.payload["generation"]) for event in ours]

    before = len(gate_events())

    def waited(count: int) -> list[tuple[str, str, int]]:
        until(lambda: len(gate_events()) >= before + count, f"{count} verdicts")
        return gate_events()[before:]

    EventsWorker.set_client_override(AssertingEventsClient)
    yield waited
    EventsWorker.set_client_override(None)


def test_a_run_goes_back_to_its_last_good_generation(ingested: Site, recipe: Recipe, watched: _GateEvents) -> None:
    back = _recipe(recipe, {**_RISING, "action": "roll_back"})
    assert evolve(back, ingested) == "roll_back"
    run = Run(ingested.store, "tiny")
    assert last_accepted_generation(run) == 1
    assert "rolled back: perplexity of the model is" in run_state(run) and "back to generation 1" in run_state(run)
    catalog = open_catalog(ingested.store)
    assert catalog.sql("select generation from generations order by all").fetchall() == [(0,), (1,)]
    rejected = "select generation, attempt, accepted from generations_all_attempts where not accepted"
    assert catalog.sql(rejected).fetchall() == [(2, 1, False)]
    query = (
        'select action, metric, first_generation, value > "limit", generation from gate_results_all_attempts where '
        "action <> 'go'"
    )
    assert catalog.sql(query).fetchall() == [("roll_back", "perplexity", 2, True, 2)]
    journal = catalog.sql("select event, generation from journal where event in ('rejected', 'rolled_back')").fetchall()
    assert journal == [("rejected", 2), ("rolled_back", 2)]
    # What was rejected can still be read.
    assert catalog.sql("select count(*) > 0 from candidates_all_attempts where generation = 2").fetchall() == [(True,)]
    assert verify(ingested.store).errors == ()
    assert watched(3) == [
        ("heirloom.gate.passed", "heirloom.run.tiny", 0),
        ("heirloom.gate.passed", "heirloom.run.tiny", 1),
        ("heirloom.gate.rolled_back", "heirloom.run.tiny", 2),
    ]


@pytest.mark.processes
def test_patience_goes_back_to_before_the_limit_was_first_broken(ingested: Site, recipe: Recipe) -> None:
    limit = {"metric": "perplexity", "at_most": 1.05, "patience": 2, "action": "roll_back"}
    with without_prefect():
        assert evolve(_recipe(recipe, limit), ingested) == "roll_back"
    assert last_accepted_generation(Run(ingested.store, "tiny")) == 0
    accepted = open_catalog(ingested.store).sql(
        "select generation, accepted from generations_all_attempts order by all"
    )
    assert accepted.fetchall() == [(0, True), (1, False), (2, False)]


@pytest.mark.processes
def test_a_run_that_went_back_stays_there_even_where_the_rejected_files_are_gone(
    ingested: Site, recipe: Recipe
) -> None:
    back = _recipe(recipe, {**_RISING, "action": "roll_back"})
    with without_prefect():
        evolve(back, ingested)
        for leftover in find_gc_candidates(ingested.store, rejected=True):
            leftover.delete()
        assert evolve(back, ingested) == "roll_back"
    assert last_accepted_generation(Run(ingested.store, "tiny")) == 1
    assert not (Run(ingested.store, "tiny").folder / "generation=2/attempt=1").exists()


_NARROW = {
    "metric": "type_coverage",
    "subject": "corpus",
    "at_least": 0.65,
    "baseline": "value",
    "action": "raise_human_fraction",
}


def test_a_generation_is_redone_with_more_human_text_and_recovers(
    ingested: Site, recipe: Recipe, watched: _GateEvents
) -> None:
    assert evolve(_recipe(recipe, _NARROW, gate={"human_fraction_step": 0.5}), ingested) == "go"
    catalog = open_catalog(ingested.store)
    shares = "select generation, attempt, accepted, human_fraction, corpus from generations_all_attempts order by all"
    records = catalog.sql("select count(*) from human_train").fetchall()[0][0]
    half = round(records / 2) / records
    assert catalog.sql(shares).fetchall() == [
        (0, 1, True, 1.0, records),
        (1, 1, True, 0.0, records),
        (2, 1, False, 0.0, records),
        (2, 2, True, half, records),
        # What was raised stays raised.
        (3, 1, True, half, records),
    ]
    query = (
        "select generation, attempt, action, value < 0.65 from gate_results_all_attempts where generation = 2 order by "
        "all"
    )
    assert catalog.sql(query).fetchall() == [(2, 1, "raise_human_fraction", True), (2, 2, "go", False)]
    ((reason,),) = catalog.sql("select reason from journal where event = 'rejected'").fetchall()
    assert reason.endswith("redone with a human share of 0.5")
    assert ("heirloom.gate.raised_human_fraction", "heirloom.run.tiny", 2) in watched(5)
    assert verify(ingested.store).errors == ()


@pytest.mark.processes
def test_a_redo_is_taken_up_again_from_the_journal(ingested: Site, recipe: Recipe) -> None:
    redone = _recipe(recipe, _NARROW, gate={"human_fraction_step": 0.5})
    with without_prefect():
        evolve(redone, ingested)
        before = sorted(str(path) for path in ingested.store.rglob("_manifest.json"))
        evolve(redone, ingested)
        assert sorted(str(path) for path in ingested.store.rglob("_manifest.json")) == before
        for leftover in find_gc_candidates(ingested.store, rejected=True):
            leftover.delete()
        evolve(redone, ingested)
        evolve(load_recipe("tiny", ["num_generations=4"], ingested.store), ingested)
    assert not (Run(ingested.store, "tiny").folder / "generation=2/attempt=1").exists()
    last = "select min(human_fraction) > 0.49 from generations_all_attempts where generation > 1"
    assert open_catalog(ingested.store).sql(last).fetchall() == [(True,)]


@pytest.mark.parametrize(
    "mix",
    [
        {"policy": "anchor", "human_repeats": 2.0, "synthetic_repeats": 0.5},
        {"policy": "mixture", "mixture_weights": [[0.8, 0.1, 0.1]], "human_repeats": 2.0},
        {"policy": "fixed-fraction", "human_fraction": 0.1, "stratify_by": "rarity", "human_repeats": 2.0},
        {"policy": "fixed-fraction", "human_fraction": 0.1, "human_source_shares": {"letters.jsonl": 1.0}},
    ],
)
def test_a_higher_human_share_keeps_the_other_mix_settings(tmp_path: Path, recipe: Recipe, mix: dict[str, Any]) -> None:
    run = Run(tmp_path, "tiny")
    changed = Recipe.model_validate({**recipe.model_dump(), "mix": mix})
    run.folder.mkdir(parents=True)
    run.append("rejected", 0, 1, "", human_fraction=0.5, records=40)
    controller = LoopController(run, changed)
    attempt = controller.next_attempt()
    assert attempt is not None
    assert attempt.number == 2
    raised = controller.recipe.mix
    assert (raised.policy, raised.human_fraction, raised.num_records) == ("fixed-fraction", 0.5, 40)
    for name in ("human_repeats", "synthetic_repeats", "stratify_by"):
        assert getattr(raised, name) == getattr(changed.mix, name)
    assert raised.human_source_shares == (changed.mix.human_source_shares or "proportional")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mix": {"policy": "accumulate"}}, "the corpus has all 129 human records that it can have"),
        (
            {
                "mix": {"policy": "fixed-fraction", "human_fraction": 0.9, "num_records": 142},
                "gate": {"human_fraction_step": 0.05},
            },
            "needs 135 human records, and there are 129",
        ),
        (
            {"gate": {"human_fraction_step": 0.01, "max_retries": 1}},
            "raising the human share 1 time (gate.max_retries) did not help",
        ),
    ],
)
def test_a_human_share_that_cannot_be_raised_stops_the_run_with_the_reason(
    ingested: Site, recipe: Recipe, changes: dict[str, Any], reason: str
) -> None:
    hopeless = {**_NARROW, "at_least": 2.0, "metric": "missing_mass"}
    limit = {**hopeless, "subject": "candidates"}
    with without_prefect():
        assert evolve(_recipe(recipe, limit, **changes), ingested) == "stop"
    run = Run(ingested.store, "tiny")
    assert reason in run_state(run)
    assert last_accepted_generation(run) == 1


def test_a_stop_is_visible_as_prefect_event_and_in_sql(ingested: Site, recipe: Recipe, watched: _GateEvents) -> None:
    assert evolve(_recipe(recipe, {**_RISING, "action": "stop"}), ingested) == "stop"
    catalog = open_catalog(ingested.store)
    assert catalog.sql("select generation, attempt from journal where event = 'stopped'").fetchall() == [(2, 1)]
    assert catalog.sql("select generation from generations order by all").fetchall() == [(0,), (1,), (2,)]
    assert catalog.sql("select generation, metric from gate_results where action = 'stop'").fetchall() == [
        (2, "perplexity")
    ]
    assert watched(3)[-1] == ("heirloom.gate.stopped", "heirloom.run.tiny", 2)


@pytest.mark.processes
def test_with_no_good_generation_to_go_back_to_a_run_stops(ingested: Site, recipe: Recipe) -> None:
    limit = {"metric": "perplexity", "baseline": "value", "at_most": 1, "action": "roll_back"}
    with without_prefect():
        assert evolve(_recipe(recipe, limit), ingested) == "stop"
    assert "there is no good generation to go back to" in run_state(Run(ingested.store, "tiny"))


def test_every_run_has_its_profile_in_sql(finished_store: Any) -> None:
    rows = (
        open_catalog(finished_store)
        .sql("select test, result, evidence from collapse_tests where generation = 3")
        .fetchall()
    )
    assert len(rows) == 8
    assert sum(state == "unknown" for _, state, _ in rows) <= 2
    assert all(evidence for *_, evidence in rows)


def _zipf_documents(folder: Path, seed: int) -> Path:
    """Texts of a language with a Zipf vocabulary and habits: after a word comes one of three, more often than not."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 1201)
    shares /= shares.sum()
    habits = rng.choice(1200, (1200, 3), p=shares)
    texts = []
    for _ in range(420):
        word_ids = [int(rng.choice(1200, p=shares))]
        while len(word_ids) < 20:
            habit = rng.random() < 0.7
            word_ids.append(int(habits[word_ids[-1], rng.integers(3)] if habit else rng.choice(1200, p=shares)))
        texts.append(" ".join(f"w{word}" for word in word_ids))
    path = folder / "zipf.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.mark.processes
def test_the_gate_is_silent_where_nothing_is_lost_and_alarms_in_time_where_it_is(
    site: Site, recipe: Recipe, tmp_path: Path
) -> None:
    few = {"num_samples": 300, "embedding_sample_records": 60, "showcase_prompt": "w1"}
    base = {"seed": 0, "curate": {"filters": []}, "evaluate": few, "generate": {"max_tokens": 24}}
    with without_prefect():
        ingest(site.store, "letters", [str(_zipf_documents(tmp_path, 0))], IngestSettings())
        for policy, generations in (("accumulate", 10), ("replace", 2)):
            changed = {**base, "name": policy, "num_generations": generations, "mix": {"policy": policy}}
            evolve(Recipe.model_validate(recipe.model_dump() | changed), site)
    catalog = open_catalog(site.store)
    false = catalog.sql(
        "select generation, metric, reason from gate_results where run = 'accumulate' and action <> 'go'"
    )
    assert false.fetchall() == []
    assert catalog.sql("select count(distinct generation) from gate_results where run = 'accumulate'").fetchall() == [
        (11,)
    ]
    alarm = "select min(generation) from gate_results where run = 'replace' and action <> 'go'"
    changed = """select min(generation) from metrics where run = 'replace' and subject = 'model'
        and ((metric like '%coverage_change' and high < 0) or (metric = 'loss_change' and low > 0))"""
    ((alarmed,),), ((beyond_doubt,),) = catalog.sql(alarm).fetchall(), catalog.sql(changed).fetchall()
    assert alarmed is not None and beyond_doubt is not None
    assert alarmed <= beyond_doubt


@pytest.mark.processes
def test_early_warning_metrics_raise_alerts_where_the_held_out_loss_does_not(
    site: Site, recipe: Recipe, tmp_path: Path
) -> None:
    few = {"num_samples": 200, "embedding_sample_records": 40, "showcase_prompt": "w1"}
    changed = {"num_generations": 2, "train": {"backend": "ngram", "order": 1}, "mix": {"policy": "accumulate"}}
    changed |= {"curate": {"filters": []}, "evaluate": few, "generate": {"max_tokens": 24, "temperature": 0.7}}
    with without_prefect():
        ingest(site.store, "letters", [str(_zipf_documents(tmp_path, 7))], IngestSettings())
        evolve(Recipe.model_validate(recipe.model_dump() | changed), site)
        page = (report(site.store, ["tiny"], "tiny") / "report.md").read_text()
    catalog = open_catalog(site.store)
    query = "select value from metrics where subject = 'model' and source = 'all' and metric = '{}' order by generation"
    perplexity, types = (
        [value for (value,) in catalog.sql(query.format(name)).fetchall()] for name in ("perplexity", "vocabulary_size")
    )
    assert perplexity[2] < 1.05 * perplexity[0]
    assert types[2] < 0.7 * types[0] < 300
    alarms = {metric for (metric,) in catalog.sql("select metric from gate_results where action <> 'go'").fetchall()}
    assert "rare_word_coverage" in alarms <= {"rare_word_coverage", "rare_bigram_coverage"}
    assert "**tiny** violates no limit on held-out loss, but violates others: rare" in page
