"""The loop: what it leaves behind, what a rerun touches, and how it goes on."""

import hashlib
from pathlib import Path

import pytest

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import DriftError
from storage.query.catalog import open_catalog
from storage.runs.run import BusyError, Run
from tasks.orchestration.prefect import without_prefect


def digests(store: Path) -> dict[str, str]:
    """Digest of every published file of every run, but the journal and the lock."""
    files = sorted(path for path in (store / "runs").rglob("*") if path.is_file())
    kept = [path for path in files if not any(part.startswith(".") for part in path.relative_to(store).parts)]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def content(store: Path, run: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every view that a result is made of."""
    catalog = open_catalog(store, [run])
    views = ("candidates", "decisions", "corpus", "eval_samples", "metrics", "gate_results", "training")
    return {view: catalog.sql(f"select * from {view} order by all").fetchall() for view in views}


@pytest.mark.processes
def test_a_run_leaves_every_artifact_of_every_generation(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe, ingested)
    catalog = open_catalog(ingested.store)
    assert catalog.sql("select count(distinct generation) from corpus").fetchall() == [(4,)]
    assert catalog.sql("select generation from generations order by all").fetchall() == [(0,), (1,), (2,), (3,)]
    assert catalog.sql("select distinct generation from candidates order by all").fetchall() == [(1,), (2,), (3,)]
    reserve = catalog.sql("select count(*) from human_train").fetchall()
    assert catalog.sql("select count(*) from corpus where generation = 3 and origin = 'human'").fetchall() == reserve


@pytest.mark.processes
def test_every_candidate_has_a_decision_and_only_survivors_are_learned_from(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe, ingested)
    catalog = open_catalog(ingested.store)
    assert catalog.sql("select count(*) from candidates anti join decisions using (id)").fetchall() == [(0,)]
    dropped = "select id from decisions where not kept"
    assert catalog.sql(f"select count(*) from corpus where id in ({dropped})").fetchall() == [(0,)]
    assert catalog.sql("select count(*) from corpus semi join human_heldout using (id)").fetchall() == [(0,)]


@pytest.mark.processes
def test_a_second_run_changes_nothing(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe, ingested)
        before = digests(ingested.store)
        before.pop("runs/tiny/run.json")
        evolve(recipe, ingested)
    after = digests(ingested.store)
    after.pop("runs/tiny/run.json")
    assert after == before


@pytest.mark.processes
def test_the_same_recipe_and_seed_say_the_same_in_another_store(
    ingested: Site, recipe: Recipe, sample_documents: Path, tmp_path: Path
) -> None:
    from curation.splitting import IngestSettings
    from tasks.ingestion.ingest import ingest

    other = Site(store=tmp_path / "other")
    with without_prefect():
        evolve(recipe, ingested)
        ingest(other.store, "letters", [str(sample_documents)], IngestSettings())
        evolve(recipe, other)
    assert content(ingested.store, "tiny") == content(other.store, "tiny")


@pytest.mark.processes
def test_another_seed_generates_other_candidates(ingested: Site, recipe: Recipe) -> None:
    short = recipe.model_copy(update={"num_generations": 1})
    with without_prefect():
        evolve(short, ingested)
        evolve(short.model_copy(update={"name": "other", "seed": 1}), ingested)
    assert content(ingested.store, "tiny")["candidates"] != content(ingested.store, "other")["candidates"]


@pytest.mark.processes
def test_a_run_can_go_further_without_touching_what_it_has(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
        before = digests(ingested.store)
        evolve(recipe, ingested)
    after = digests(ingested.store)
    kept = {name: digest for name, digest in before.items() if "generation=" in name}
    assert kept.items() <= after.items()
    assert any("generation=3" in name for name in after)


@pytest.mark.processes
def test_a_changed_recipe_is_refused_and_the_changed_fields_are_named(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
        before = digests(ingested.store)
        changed = recipe.model_copy(
            update={"prompts": recipe.prompts.model_copy(update={"prompts_per_human_record": 2.0})}
        )
        with pytest.raises(DriftError, match=r"prompts.prompts_per_human_record was 1.0, is now 2.0"):
            evolve(changed, ingested)
    assert digests(ingested.store) == before


def test_a_run_that_somebody_else_writes_is_refused(ingested: Site, recipe: Recipe) -> None:
    with (
        Run(ingested.store, "tiny").lock(),
        without_prefect(),
        pytest.raises(BusyError, match="being written by process"),
    ):
        evolve(recipe, ingested)


@pytest.mark.processes
def test_the_gate_stops_a_run_and_the_journal_records_it(ingested: Site, recipe: Recipe) -> None:
    strict = {"limits": [{"metric": "perplexity", "at_most": 0.001, "action": "stop"}]}
    recipe = Recipe.model_validate({**recipe.model_dump(), "gate": strict})
    with without_prefect():
        assert evolve(recipe, ingested) == "stop"
    events = [(entry["event"], entry["generation"]) for entry in Run(ingested.store, "tiny").journal()]
    assert ("stopped", 0) in events
    assert not Run(ingested.store, "tiny").folder.joinpath("generation=1").exists()


@pytest.mark.processes
def test_a_run_keeps_its_heldout_set_when_more_human_text_comes(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    import json

    from curation.splitting import IngestSettings
    from tasks.ingestion.ingest import ingest
    from tests.conftest import human_texts

    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(120, seed=5)))
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
        ingest(ingested.store, "letters", [str(more)], IngestSettings())
        evolve(recipe.model_copy(update={"num_generations": 2}), ingested)
    catalog = open_catalog(ingested.store)
    assert catalog.sql("select generation, snapshot from generations order by all").fetchall() == [
        (0, 1),
        (1, 1),
        (2, 2),
    ]
    sizes = "select distinct sample_size from metrics where metric = 'perplexity'"
    assert (
        catalog.sql(sizes).fetchall() == catalog.sql("select count(*) from human_heldout where snapshot = 1").fetchall()
    )


def test_a_finished_run_whose_old_weights_are_gone_is_left_as_it_is_and_can_go_further(store: Path) -> None:
    from flows.config.loading import load_recipe
    from storage.maintenance.gc import find_gc_candidates
    from storage.maintenance.verify import verify

    for leftover in find_gc_candidates(store, keep_models=1):
        leftover.delete()
    before = {name: digest for name, digest in digests(store).items() if "generation=" in name}
    with without_prefect():
        evolve(load_recipe("tiny", [], store), Site(store=store))
        assert {name: digest for name, digest in digests(store).items() if "generation=" in name} == before
        evolve(load_recipe("tiny", ["num_generations=4"], store), Site(store=store))
    assert verify(store).errors == ()
    assert before.items() <= digests(store).items()


def test_weights_that_are_needed_again_are_asked_for(store: Path) -> None:
    import shutil

    from flows.config.loading import load_recipe
    from storage.artifacts.artifact import ArtifactMissingError
    from storage.artifacts.model_files import remove_weights

    attempt = store / "runs/tiny/generation=2/attempt=1"
    remove_weights(attempt / "model")
    for name in ("metrics", "eval_samples"):
        shutil.rmtree(attempt / name)
    with without_prefect(), pytest.raises(ArtifactMissingError, match="removed by heirloom gc on"):
        evolve(load_recipe("tiny", [], store), Site(store=store))
    shutil.rmtree(attempt / "model")
    with without_prefect():
        evolve(load_recipe("tiny", [], store), Site(store=store))
    assert (attempt / "metrics").exists()


def test_a_fork_takes_its_generations_as_given_and_goes_on_by_its_own_recipe(store: Path) -> None:
    from flows.config.loading import load_recipe
    from storage.maintenance.verify import verify
    from storage.runs.fork import fork

    source = Run(store, "tiny")
    changed = load_recipe("tiny", ["name=other", "num_generations=3", "generate.temperature=0.5"], store)
    fork(source, 1, "other", changed.model_dump(mode="json"))
    before = digests(store)
    with without_prefect():
        evolve(load_recipe("other", [], store), Site(store=store))
    after = digests(store)
    assert {name: digest for name, digest in before.items() if "generation=" in name}.items() <= after.items()
    catalog = open_catalog(store)
    temperatures = (
        "select distinct run, generation, parameters.temperature from candidates where run = 'other' order by all"
    )
    assert catalog.sql(temperatures).fetchall() == [("other", 1, 1.0), ("other", 2, 0.5), ("other", 3, 0.5)]
    forks = "select run, forked_from, forked_generation from runs order by run"
    assert catalog.sql(forks).fetchall() == [("other", "tiny", 1), ("tiny", None, None)]
    assert verify(store).errors == ()


def test_an_erased_record_is_in_no_later_corpus_and_prompts_nothing(store: Path) -> None:
    from flows.config.loading import load_recipe
    from storage.artifacts.tombstones import add_tombstones
    from storage.maintenance.erase import find_text_hashes

    query = "select unnest(parents) as parent from candidates where generation = 3 order by 1 limit 1"
    ((parent,),) = open_catalog(store).sql(query).fetchall()
    add_tombstones(store, find_text_hashes(store, [parent]), "")
    with without_prefect():
        evolve(load_recipe("tiny", ["num_generations=4"], store), Site(store=store))
    import pyarrow.parquet as pq

    attempt = store / "runs/tiny/generation=4/attempt=1"
    assert parent not in pq.ParquetFile(attempt / "corpus/part-00000.parquet").read()["id"].to_pylist()
    asked = pq.ParquetFile(attempt / "candidates/part-00000.parquet").read()["parents"].to_pylist()
    assert [parent] not in asked
