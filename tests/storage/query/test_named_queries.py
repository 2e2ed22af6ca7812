"""Named questions: what they answer, what they want, and what they leave unread."""

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES, bind, description, parameters
from storage.runs.run import Attempt, Run
from tests.storage.conftest import RECIPE, publish

GIVEN = {"record": "g001-0000001", "run": "first", "other_run": "second"}


def _asked(root: Path, name: str, *arguments: str) -> list[tuple[Any, ...]]:
    catalog = open_catalog(root)
    return catalog.execute(QUERIES[name], bind(catalog, name, arguments)).fetchall()


@pytest.fixture(scope="module")
def full(_two_runs: Path) -> duckdb.DuckDBPyConnection:
    return open_catalog(_two_runs)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return open_catalog(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("name", [name for name in QUERIES if not parameters(name) and name != "borderline_duplicates"])
def test_a_question_without_arguments_has_an_answer_on_a_full_and_on_an_empty_store(
    name: str, full: duckdb.DuckDBPyConnection, empty: duckdb.DuckDBPyConnection
) -> None:
    assert full.execute(QUERIES[name]).fetchall()
    assert empty.execute(QUERIES[name]).fetchall() == []


@pytest.mark.parametrize("name", QUERIES)
def test_every_named_query_has_a_description(name: str) -> None:
    assert re.fullmatch(r"[A-Z].+\.", description(name))


@pytest.mark.parametrize(
    "name", [name for name in QUERIES if name not in ("showcase_completions", "borderline_duplicates")]
)
def test_a_question_that_shows_no_text_reads_none(name: str, full: duckdb.DuckDBPyConnection) -> None:
    given = {key: GIVEN[key] for key in parameters(name)}
    ((_, plan),) = full.execute(f"explain (format json) {QUERIES[name]}", given).fetchall()
    assert '"text"' not in plan


def test_quotas_are_counted_by_cell(two_runs: Path) -> None:
    rows = _asked(two_runs, "quota_fill")
    assert {row[2] for row in rows} == {"{tone=plain, topic=0}"}
    assert {row[3:] for row in rows} == {(2, 1, 1)}


def test_best_of_statistics_and_topic_coverage_can_be_queried(two_runs: Path) -> None:
    assert ("second", 1, "self", 1, 1, 5.0, 5.0, 0.0) in _asked(two_runs, "best_of_stats")
    assert ("second", 1, 0, "the old", 3, 0, 1.0, 2, 1) in _asked(two_runs, "topic_coverage")


def test_of_several_answers_to_a_prompt_one_that_is_left_delivers_it(tmp_path: Path) -> None:
    run = Run(tmp_path, "one")
    run.initialize(RECIPE, set(), {})
    rows = [
        {"id": f"g001-{place:07d}", "prompt_id": place // 2, "attributes": [("tone", "odd")], "source_generation": 1}
        for place in range(4)
    ]
    publish(Attempt(run, 1).artifact("candidates", {}), records.CANDIDATES, rows)
    lost = [{"id": rows[place]["id"], "filter": "best_of", "kept": False} for place in (0, 2, 3)]
    publish(Attempt(run, 1).artifact("decisions", {}), records.DECISIONS, lost)
    assert _asked(tmp_path, "quota_fill") == [("one", 1, "{tone=odd}", 2, 1, 1)]


def test_the_history_of_a_record_is_in_order_with_every_attempt(two_runs: Path) -> None:
    for run in ("first", "second"):
        assert _asked(two_runs, "record_history", f"{run}/g001-0000000") == [
            (run, 1, 1, "candidates", "unconditional by model m"),
            (run, 1, 1, "decisions", "best_of: kept"),
            (run, 1, 1, "decisions", "exact: kept"),
            (run, 1, 1, "corpus", "weight 1.0"),
            (run, 1, 1, "model", _model(two_runs, run, 1, 1)),
        ]
    (candidate, dropped) = _asked(two_runs, "record_history", "g001a2-0000001")
    assert candidate[:4] == ("first", 1, 2, "candidates")
    assert dropped[3:] == ("decisions", "exact: dropped, exact duplicate 1.0")


@pytest.mark.parametrize("name", ["record_history", "descendants", "duplicates_of", "sources_of"])
def test_an_id_that_several_runs_have_needs_the_run(name: str, two_runs: Path) -> None:
    message = f"different record in each of 2 runs: first, second. .* heirloom query {name} first/g001-0000000"
    with pytest.raises(ValueError, match=message):
        _asked(two_runs, name, "g001-0000000")
    assert {row[0] for row in _asked(two_runs, name, "second/g001-0000000")} <= {"second"}
    with pytest.raises(ValueError, match="There is no record 'third/g001-0000000'"):
        _asked(two_runs, name, "third/g001-0000000")


def _model(root: Path, run: str, generation: int, attempt: int) -> str:
    where = f"run = '{run}' and generation = {generation} and attempt = {attempt}"
    ((model,),) = open_catalog(root).execute(f"select model from generations_all_attempts where {where}").fetchall()
    return f"{model} was trained on it"


def test_a_human_record_begins_where_it_came_in(two_runs: Path) -> None:
    places = [row[3:] for row in _asked(two_runs, "record_history", "h-1")]
    assert places == [
        ("human_train", "letters, snapshot 1, from letters.txt"),
        ("human_heldout", "letters, snapshot 1, from letters.txt"),
        ("rejected_documents", "letters, snapshot 1: "),
    ]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A record with a child, a grandchild, and a namesake of the child's in another run."""
    for name in ("one", "other"):
        run = Run(tmp_path, name)
        run.initialize({**RECIPE, "seed": len(name)}, set(), {})
        for generation, parent in ((1, "h-0"), (2, "g001-0000000")):
            row = {"id": f"g{generation:03d}-0000000", "parents": [parent if name == "one" else "h-9"]}
            publish(Attempt(run, generation).artifact("candidates", {}), records.CANDIDATES, [row])
        decision = {
            "id": "g002-0000000",
            "filter": "minhash",
            "kept": False,
            "reason": "near",
            "duplicate_of": "h-0",
            "score": 0.9,
        }
        publish(Attempt(run, 2).artifact("decisions", {}), records.DECISIONS, [decision])
        value = {"subject": "model", "metric": "perplexity", "source": "all", "value": float(len(name))}
        publish(Attempt(run, 1).artifact("metrics", {}), records.METRICS, [value])
    human = tmp_path / "human" / "letters" / "snapshot=1"
    rows = [{"id": "h-0", "origin": "human"}, {"id": "h-9", "origin": "human"}]
    publish(Artifact(human / "human_train", {}), records.HUMAN_RECORDS, rows)
    aside = {"id": "h-8", "filter": "exact", "reason": "exact duplicate", "duplicate_of": "h-0", "score": 1.0}
    publish(Artifact(human / "rejected_documents", {}), records.REJECTED_DOCUMENTS, [aside])
    return tmp_path


def test_descendants_are_found_over_generations_and_within_their_run(family: Path) -> None:
    assert _asked(family, "descendants", "h-0") == [
        ("one", 1, 1, "g001-0000000", "h-0"),
        ("one", 2, 2, "g002-0000000", "g001-0000000"),
    ]
    assert [row[:2] for row in _asked(family, "descendants", "one/g001-0000000")] == [("one", 1)]
    assert {row[0] for row in _asked(family, "descendants", "h-9")} == {"other"}


def test_a_record_is_traced_to_its_human_sources_and_licenses(tmp_path: Path) -> None:
    run = Run(tmp_path, "one")
    run.initialize(RECIPE, set(), {})
    for generation, parents in ((1, ["h-0", "h-1"]), (2, ["g001-0000000"])):
        row = {
            "id": f"g{generation:03d}-0000000",
            "parents": parents,
            "model_fingerprint": f"model-{generation}",
            "prompt_template": "retell",
            "seed": generation,
        }
        unprompted = {"id": f"g{generation:03d}-0000001", "parents": [], "model_fingerprint": "free"}
        publish(Attempt(run, generation).artifact("candidates", {}), records.CANDIDATES, [row, unprompted])
    human = [
        {"id": "h-0", "origin": "human", "source": "letters.txt", "license": "CC0-1.0"},
        {"id": "h-1", "origin": "human", "source": "diaries.txt"},
    ]
    where = tmp_path / "human" / "letters" / "snapshot=1" / "human_train"
    publish(Artifact(where, {}), records.HUMAN_RECORDS, human)

    steps = [(row[1], *row[5:6], *row[7:]) for row in _asked(tmp_path, "sources_of", "g002-0000000")]
    assert steps == [
        (1, "model-2", "retell", 2, "g001-0000000", None, None, None),
        (2, "model-1", "retell", 1, "h-0", "letters", "letters.txt", "CC0-1.0"),
        (2, "model-1", "retell", 1, "h-1", "letters", "diaries.txt", "not stated"),
    ]
    ((*_, human_id, dataset, source, license_id),) = _asked(tmp_path, "sources_of", "h-0")
    assert (human_id, dataset, source, license_id) == ("h-0", "letters", "letters.txt", "CC0-1.0")
    ((_, _, _, _, _, model, *_, parent, _, _, _),) = _asked(tmp_path, "sources_of", "g001-0000001")
    assert (model, parent) == ("free", None), "a text that no record prompted is shown with its model alone"


def test_duplicates_are_listed_in_both_directions_including_those_of_the_ingest(family: Path) -> None:
    kept = [row[2:5] for row in _asked(family, "duplicates_of", "h-0")]
    assert kept.count(("dropped for it", "g002-0000000", "minhash")) == 2
    assert ("rejected at ingest for it", "h-8", "exact") in kept
    assert {row[2:4] for row in _asked(family, "duplicates_of", "one/g002-0000000")} == {("it was dropped for", "h-0")}


def test_what_changed_is_the_recipe_and_the_metrics_side_by_side(family: Path) -> None:
    assert _asked(family, "diff_runs", "one", "other") == [
        ("seed", None, "3", "5", None),
        ("model perplexity", 1, "3", "5", "+2"),
    ]
    assert _asked(family, "diff_runs", "one", "one") == [("model perplexity", 1, "3", "3", "+0")]


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("why", [], "There is no named query 'why'. Named queries: best_of_stats"),
        ("record_history", [], "record_history takes 1 argument, found 0. Usage: heirloom query record_history RECORD"),
        ("diff_runs", ["first"], "takes 2 arguments, found 1. Usage: heirloom query diff_runs RUN OTHER_RUN"),
        ("run_outcomes", ["x"], "run_outcomes takes no arguments, found 1"),
        ("record_history", ["h-none"], "There is no record 'h-none' in this store"),
        ("record_history", ["' or true --"], "There is no record"),
        ("diff_runs", ["first", "third"], "There is no run 'third' in this store. Runs: first, second"),
        (
            "diff_runs",
            ["first", "secnd"],
            "There is no run 'secnd' in this store. Did you mean `second`? Runs: first, second",
        ),
        ("filter_rate", [], "There is no named query 'filter_rate'. Did you mean `filter_rates`? Named queries: "),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, arguments: list[str], sentence: str, two_runs: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        bind(open_catalog(two_runs), name, arguments)


def test_borderline_duplicates_are_three_per_filter_with_both_texts(two_runs: Path) -> None:
    assert _asked(two_runs, "borderline_duplicates") == []
    attempt = Attempt(Run(two_runs, "first"), 2)
    reserved, human = open_catalog(two_runs).sql("select id, text from human_train order by id").fetchall()[0]
    texts = {"g002-0000000": "the river", "g002-0000001": "the rivers", "g002-0000002": "our river"}
    publish(
        attempt.artifact("candidates", {}),
        records.CANDIDATES,
        [{"id": one, "text": text} for one, text in texts.items()],
    )
    gone = [("semantic", "g002-0000001", "g002-0000000", 0.95), ("semantic", "g002-0000002", "g002-0000000", 0.93)]
    gone += [("human_overlap", "g002-0000002", reserved, 0.7), ("exact", "g002-0000001", "g002-0000000", 1.0)]
    rows = [
        {"id": one, "filter": stage, "kept": False, "reason": "so", "duplicate_of": duplicate_of, "score": evidence}
        for stage, one, duplicate_of, evidence in gone
    ]
    publish(attempt.artifact("decisions", {}), records.DECISIONS, rows)
    assert _asked(two_runs, "borderline_duplicates") == [
        ("first", 2, "human_overlap", 0.7, "g002-0000002", "our river", reserved, human),
        ("first", 2, "semantic", 0.93, "g002-0000002", "our river", "g002-0000000", "the river"),
        ("first", 2, "semantic", 0.95, "g002-0000001", "the rivers", "g002-0000000", "the river"),
    ]
