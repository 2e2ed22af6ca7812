"""A run judges its candidates by the checks of the human records that they answer, and keeps what passes."""

import json
from pathlib import Path

import pytest

from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from heirloom.errors import HeirloomError
from storage.query.catalog import open_catalog
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tests.conftest import human_texts


def _recipe(recipe: Recipe, **curate: object) -> Recipe:
    changed = {
        "dataset": "problems",
        "num_generations": 2,
        "prompts": {"template_name": "template", "template": "{opening}", "completions_per_prompt": 4},
        "evaluate": {**recipe.evaluate.model_dump(), "answers_per_problem": 3},
        "curate": {"filters": ["checks", "exact"], **curate},
    }
    return Recipe.model_validate(recipe.model_dump(exclude={"curate", "prompts"}) | changed)


def _ingest_problems(site: Site, folder: Path, checks: list[object]) -> None:
    rows = [{"text": text, "check": checks[number % len(checks)]} for number, text in enumerate(human_texts(180))]
    file = folder / "problems.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    settings = IngestSettings.model_validate({"check_column": "check", "dedup": {"method": "exact"}})
    with without_prefect():
        ingest(site.store, "problems", [str(file)], settings)


@pytest.mark.processes
def test_only_candidates_that_pass_their_check_are_kept(recipe: Recipe, site: Site, tmp_path: Path) -> None:
    _ingest_problems(site, tmp_path, [{"kind": "regex", "pattern": "(?:..)*"}, None])
    with without_prefect():
        evolve(_recipe(recipe), site)
    catalog = open_catalog(site.store)
    counts = "select count(*) from check_results where generation = 1"
    assert (
        catalog.sql(f"{counts} and passed = (outcome = 'passed')").fetchall()
        == catalog.sql("select count(*) from candidates where generation = 1").fetchall()
    )
    assert min(catalog.sql(f"{counts} group by outcome").fetchall()) > (0,)
    assert catalog.sql("select distinct outcome from check_results order by all").fetchall() == [
        ("failed",), ("no_check",), ("passed",),
    ]  # fmt: skip
    by_hand = "regexp_full_match(trim(answer, chr(10) || ' '), '(?s)(?:..)*')"
    assert catalog.sql(
        f"select count(*) from check_results where kind = 'regex' and passed != {by_hand}"
    ).fetchall() == [(0,)]
    kept = "select id from decisions where filter = 'checks' and kept"
    assert catalog.sql(f"select count(*) from check_results where passed != (id in ({kept}))").fetchall() == [(0,)]
    reasons = catalog.sql(
        "select distinct reason from decisions where filter = 'checks' and not kept order by all"
    ).fetchall()
    assert reasons == [
        ("failed: the pattern does not match the whole answer",),
        ("no_check: its human record has no check",),
    ]
    measured = dict(
        catalog.sql(
            "select metric, value from metrics where generation = 1 and subject = 'candidates' and metric like "
            "'pass_at_%'"
        ).fetchall()
    )
    rate = catalog.sql(
        "select avg(rate) from (select avg(passed::int) rate from check_results where problem is not null and "
        "generation = 1 group by problem)"
    ).fetchall()[0][0]
    assert measured["pass_at_1"] == pytest.approx(rate)
    assert measured["pass_at_k"] >= measured["pass_at_1"]
    # Each model answers the held-out problems, generation 0's too.
    answered = catalog.sql(
        "select generation, count(distinct problem), count(*) from heldout_check_results group by all order by 1"
    )
    (num_problems,) = catalog.sql("select count(*) from human_heldout where checks is not null").fetchall()[0]
    assert answered.fetchall() == [(generation, num_problems, 3 * num_problems) for generation in (0, 1, 2)]


@pytest.mark.processes
def test_candidates_without_a_check_can_be_kept(recipe: Recipe, site: Site, tmp_path: Path) -> None:
    _ingest_problems(site, tmp_path, [{"kind": "answer", "answer": "42"}, None, None, None])
    with without_prefect():
        evolve(_recipe(recipe, checks={"without_check": "keep"}), site)
    catalog = open_catalog(site.store)
    dropped = catalog.sql(
        "select distinct outcome from check_results join decisions using (id) where filter = 'checks' and not kept"
    )
    assert dropped.fetchall() == [("failed",)]


@pytest.mark.processes
def test_a_filter_on_checks_without_any_check_is_refused(recipe: Recipe, site: Site, tmp_path: Path) -> None:
    _ingest_problems(site, tmp_path, [None])
    with without_prefect(), pytest.raises(HeirloomError, match=r"no human record has a check.*check_column"):
        evolve(_recipe(recipe), site)


def test_a_record_with_an_invalid_check_is_rejected_with_the_reason(site: Site, tmp_path: Path) -> None:
    _ingest_problems(site, tmp_path, [{"kind": "answer", "answer": "1"}, {"kind": "anwser"}, 7])
    rows = (
        open_catalog(site.store)
        .sql("select reason, count(*) from rejected_documents group by all order by all")
        .fetchall()
    )
    assert [count for _, count in rows] == [60, 60]
    assert "neither JSON nor an object" in rows[1][0] + rows[0][0]
    assert "expected tags: 'python', 'answer'" in rows[1][0] + rows[0][0]
