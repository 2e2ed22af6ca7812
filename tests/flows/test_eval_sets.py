"""Protected records, end to end.

Never used as prompts, never trained on, and every corpus has a report that shows it.
"""

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from curation.splitting import EvalSetSettings, IngestSettings, is_held_out
from curation.text import shingles, words
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.ingest import add_eval_set
from flows.ingest import ingest as ingest_flow
from storage.artifacts.artifact import ArtifactMissingError
from storage.artifacts.ids import human_id, text_hash
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from storage.runs.run import Attempt, Run
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.orchestration.prefect import without_prefect
from tests.conftest import human_texts
from tests.flows.test_evolve import content


def _written(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _is_held(text: str) -> bool:
    return is_held_out(text_hash(text), IngestSettings().heldout_fraction)


def _near(text: str) -> str:
    """A text for human_train that repeats two thirds of it: below what ingest drops, above what may overlap."""
    mine = set(shingles(text, 3))
    for number in range(2000):
        other = f"{text} Then {' '.join(f'word{number}x{place}' for place in range(len(mine) // 2 - 1))}."
        both = mine & set(shingles(other, 3))
        if not _is_held(other) and 0.6 <= len(both) / len(mine | set(shingles(other, 3))) < 0.7:
            return other
    raise AssertionError("no such text")


def _quoting(text: str) -> str:
    """A long text for human_train that quotes it."""
    for number in range(2000):
        around = " ".join(f"around{number}x{place}" for place in range(80))
        if not _is_held(other := f"{around} {text} {around}"):
            return other
    raise AssertionError("no such text")


def _overlaps(text: str, protected: str) -> bool:
    """By the definitions, and by nothing that the loop uses."""
    mine, other = _runs(text, 3), _runs(protected, 3)
    if len(mine & other) / len(mine | other) >= 0.6:
        return True
    length = min(13, len(words(protected)))
    return length >= 8 and bool(_runs(text, length) & _runs(protected, length))


@cache
def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    """Of its words; none where it has fewer."""
    found = words(text)
    return {tuple(found[at : at + length]) for at in range(len(found) - length + 1)}


@pytest.mark.processes
@pytest.mark.parametrize("policy", ["anchor", "accumulate"])
def test_nothing_held_out_is_prompted_from_or_learned_from_across_two_ingests(
    site: Site, recipe: Recipe, tmp_path: Path, policy: str
) -> None:
    texts = human_texts(220)
    held = [text for text in texts if _is_held(text)]
    both = [_near(held[0]), _quoting(held[1])]
    later = [_near(held[2]), _quoting(held[3]), _near(held[-1]), _quoting(held[-2])]
    assert held[3] in texts[:150] and held[-2] in texts[150:]
    chosen = Recipe.model_validate(
        recipe.model_dump()
        | {"prompts": {"template_name": "prefix", "prompts_per_human_record": 1.0}, "mix": {"policy": policy}}
    )
    with without_prefect():
        ingest(site.store, "letters", [_written(tmp_path / "a.jsonl", [*texts[:150], *both])], IngestSettings())
        evolve(chosen.model_copy(update={"num_generations": 1}), site)
        ingest(site.store, "letters", [_written(tmp_path / "b.jsonl", [*texts[150:], *later])], IngestSettings())
        evolve(chosen, site)
    catalog = open_catalog(site.store)
    assert catalog.sql("select distinct snapshot from generations order by all").fetchall() == [(1,), (2,)]
    # The documents on both sides are in human_train, and in nothing made from it.
    twofold = [human_id(text) for text in (*both, *later)]
    assert catalog.execute(
        "select count(*) from human_train where snapshot = 2 and list_contains(?, id)", [twofold]
    ).fetchall() == [(6,)]
    assert catalog.sql("select count(distinct id) from excluded_records where generation >= 2").fetchall() >= [(6,)]
    for generation, snapshot in catalog.sql("select generation, snapshot from generations").fetchall():
        protected = catalog.execute("select id, text from human_heldout where snapshot = ?", [snapshot]).fetchall()
        corpus = catalog.execute("select id, text from corpus where generation = ?", [generation]).fetchall()
        parents = catalog.execute(
            "select unnest(parents) from candidates where generation = ?", [generation]
        ).fetchall()
        asked = {identity for (identity,) in parents}
        assert not (asked | {identity for identity, _ in corpus}) & (
            {identity for identity, _ in protected} | set(twofold)
        )
        assert not [
            pair for pair in ((text, other) for _, text in corpus for _, other in protected) if _overlaps(*pair)
        ]
        contamination = catalog.execute(
            "select sum(num_compared), sum(num_overlapping), max(max_jaccard) < 0.6 from contamination_report where "
            "generation = ?",
            [generation],
        ).fetchall()
        assert contamination == [(len(corpus), 0, True)]


@pytest.mark.processes
def test_a_later_eval_set_is_excluded_from_then_on_and_earlier_exposures_are_reported(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    reserve = open_catalog(ingested.store).sql("select id, text from human_train order by id limit 3").fetchall()
    chosen = recipe.model_copy(update={"num_generations": 1})
    with without_prefect():
        evolve(chosen, ingested)
        exam = _written(tmp_path / "exam.jsonl", [*(text for _, text in reserve), *human_texts(9, seed=8)])
        counts = add_eval_set([exam], "letters", "exam", EvalSetSettings(), ingested)
        evolve(recipe, ingested)
    assert counts == {"records": 12, "rejected_documents": 0}
    catalog = open_catalog(ingested.store)
    ids = [identity for identity, _ in reserve]
    count = "select generation, count(*) from corpus where list_contains(?, id) group by all order by all"
    assert catalog.execute(count, [ids]).fetchall() == [(0, 3), (1, 3)]
    exposures = catalog.sql(f"select found_in, run, generation, records from ({QUERIES['eval_exposure']})").fetchall()
    assert {("corpus", "tiny", 0, 3), ("corpus", "tiny", 1, 3), ("human_train", None, None, 3)} <= set(exposures)
    proof = "select generation, eval_set, sum(num_overlapping) from contamination_report group by all order by all"
    assert catalog.sql(proof).fetchall() == [
        *((generation, "human_heldout", 0) for generation in (0, 1)),
        *((generation, name, 0) for generation in (2, 3) for name in ("exam", "human_heldout")),
    ]
    assert catalog.sql(QUERIES["contamination"]).fetchall()


@pytest.mark.processes
def test_a_loop_without_decontamination_reports_its_contamination(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    reserve = open_catalog(ingested.store).sql("select text from human_train order by id limit 60").fetchall()
    careless = Recipe.model_validate(
        recipe.model_dump()
        | {
            "num_generations": 1,
            "prompts": {"prompts_per_human_record": 8.0},
            "curate": {"filters": []},
            "mix": {"policy": "replace"},
            "train": {"backend": "ngram", "order": 5},
            "generate": {"temperature": 0.5},
        }
    )
    with without_prefect():
        evolve(careless.model_copy(update={"num_generations": 0}), ingested)
        exam = _written(tmp_path / "exam.jsonl", [text for (text,) in reserve])
        add_eval_set([exam], "letters", "exam", EvalSetSettings(), ingested)
        evolve(careless, ingested)
    catalog = open_catalog(ingested.store)
    ((contaminated,),) = catalog.sql("select contaminated from generations where generation = 1").fetchall()
    assert contaminated > 0
    query = (
        "select num_overlapping from contamination_report where generation = 1 and eval_set = 'exam' and origin = "
        "'synthetic'"
    )
    assert catalog.sql(query).fetchall() == [(contaminated,)]


@pytest.mark.processes
def test_an_attempt_that_began_before_a_set_ends_as_if_it_had_not_come(
    ingested: Site, recipe: Recipe, tmp_path: Path
) -> None:
    reserve = open_catalog(ingested.store).sql("select text from human_train limit 9").fetchall()
    other = Site(store=tmp_path / "other")
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
        load_pinned_human(Attempt(Run(ingested.store, "tiny"), 2), "letters")  # begun, and killed there
        shutil.copytree(ingested.store, other.store)
        exam = _written(tmp_path / "exam.jsonl", [text for (text,) in reserve])
        add_eval_set([exam], "letters", "exam", EvalSetSettings(), ingested)
        for site in (ingested, other):
            evolve(recipe.model_copy(update={"num_generations": 2}), site)
        assert content(ingested.store, "tiny") == content(other.store, "tiny")
        evolve(recipe, ingested)
    lineage = "select distinct generation from lineage where parent = 'eval_set_exam'"
    assert open_catalog(ingested.store).sql(lineage).fetchall() == [(3,)]


@pytest.mark.processes
def test_a_model_is_measured_on_the_sets_that_its_recipe_names(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    chosen = Recipe.model_validate(
        recipe.model_dump() | {"num_generations": 1, "evaluate": {"num_samples": 20, "eval_sets": ["exam"]}}
    )
    with without_prefect():
        with pytest.raises(ArtifactMissingError, match=r"There is no eval set 'exam' of letters\. Eval sets: none yet"):
            evolve(chosen, ingested)
        assert not (ingested.store / "runs").exists()
        exam = _written(tmp_path / "exam.jsonl", human_texts(30, seed=8))
        add_eval_set([exam], "letters", "exam", EvalSetSettings(), ingested)
        evolve(chosen, ingested)
    catalog = open_catalog(ingested.store)
    sizes = catalog.sql("select generation, source, sample_size from metrics where metric = 'perplexity' order by all")
    (held,) = {size for _, source, size in sizes.fetchall() if source == "all"}
    assert held != 30
    assert sizes.fetchall() == [(0, "all", held), (0, "exam", 30), (1, "all", held), (1, "exam", 30)]
    # Curve, outcome and gate are about the held-out set alone.
    curve = catalog.sql(f"select count(*) from ({QUERIES['collapse_curve']}) where metric = 'perplexity'")
    assert curve.fetchall() == [(2,)]


def test_the_flow_is_a_prefect_run(ingested: Site, tmp_path: Path, prefect_server: None) -> None:
    from prefect.client.orchestration import get_client

    exam = _written(tmp_path / "exam.jsonl", human_texts(9, seed=8))
    add_eval_set([exam], "letters", "exam-by-prefect", EvalSetSettings(), ingested)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    assert ("exam-by-prefect", "Completed") in {(run.name, run.state_name) for run in runs}


def test_a_set_in_a_bucket_is_kept_out_on_every_machine(
    bucket_url: str, sample_documents: Path, recipe: Recipe, tmp_path: Path
) -> None:
    one, other = (Site(store=tmp_path / name, store_url=bucket_url) for name in ("one", "other"))
    exam = _written(tmp_path / "exam.jsonl", human_texts(3))
    with without_prefect():
        ingest_flow([str(sample_documents)], "letters", IngestSettings(), one)
        add_eval_set([exam], "letters", "exam", EvalSetSettings(), one)
        evolve(recipe.model_copy(update={"num_generations": 1}), other)
    catalog = open_catalog(other.store)
    reserve = catalog.execute(
        "select count(*) from human_train where list_contains(?, text)", [human_texts(3)]
    ).fetchall()
    assert reserve > [(0,)]
    assert catalog.sql("select count(distinct id) from excluded_records").fetchall() == reserve
    assert catalog.sql("select sum(num_overlapping) from contamination_report where eval_set = 'exam'").fetchall() == [
        (0,)
    ]
