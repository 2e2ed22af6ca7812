from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact, ArtifactMissingError, read_manifest
from storage.artifacts.parquet_io import write_parquet
from storage.datasets.snapshots import human_folder
from storage.query.catalog import open_catalog, write_catalog
from storage.query.named_queries import QUERIES
from storage.runs.run import Attempt, Run
from tests.storage.conftest import HUMAN_VIEWS, RECIPE, live, publish

VIEWS = {
    "candidates": records.CANDIDATES.names,
    "decisions": records.DECISIONS.names,
    "corpus": records.CORPUS.names,
    "metrics": records.METRICS.names,
    "gate_results": records.GATE_RESULTS.names,
    "eval_samples": records.EVAL_SAMPLES.names,
    "training": records.TRAINING.names,
    "excluded_records": records.DECISIONS.names,
    "contamination_report": records.CONTAMINATION_REPORT.names,
}
EVALUATION_VIEWS = {
    "eval_records": records.HUMAN_RECORDS,
    "eval_rejected_documents": records.REJECTED_DOCUMENTS,
    "eval_exposures": records.EVAL_EXPOSURES,
}


def _columns(catalog: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return [row[0] for row in catalog.execute(f"describe {view}").fetchall()]


def _asked(root: Path, question: str) -> list[tuple[Any, ...]]:
    return open_catalog(root).execute(question).fetchall()


def test_an_empty_store_has_every_view_with_its_columns(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    for view, columns in VIEWS.items():
        for name in (view, f"{view}_all_attempts"):
            assert _columns(catalog, name) == [*columns, "run", "generation", "attempt"]
            assert catalog.execute(f"select count(*) from {name}").fetchall() == [(0,)]
    for view, schema in HUMAN_VIEWS.items():
        assert _columns(catalog, view) == [*schema.names, "dataset", "snapshot"]
    for view, schema in EVALUATION_VIEWS.items():
        assert _columns(catalog, view) == [*schema.names, "dataset", "eval_set"]
    for view in (
        "journal",
        "judgements",
        "generations",
        "generations_all_attempts",
        "runs",
        "recipes",
        "lineage",
        "records",
    ):
        assert _columns(catalog, view)[0] in ("run", "id")
        assert catalog.execute(f"select * from {view}").fetchall() == []


def test_views_have_the_same_columns_and_types_with_and_without_records(two_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    full, empty = open_catalog(two_runs), open_catalog(tmp_path / "empty")
    others = (
        "journal",
        "judgements",
        "generations",
        "generations_all_attempts",
        "runs",
        "recipes",
        "lineage",
        "records",
    )
    for name in (*VIEWS, *(f"{view}_all_attempts" for view in VIEWS), *HUMAN_VIEWS, *EVALUATION_VIEWS, *others):
        one, other = (catalog.execute(f"describe {name}").fetchall() for catalog in (full, empty))
        assert [row[:2] for row in one] == [row[:2] for row in other]


def test_views_show_accepted_attempts_and_all_show_every_attempt(two_runs: Path) -> None:
    catalog = open_catalog(two_runs)
    values = "select run, generation, attempt, value from {} order by all"
    assert catalog.execute(values.format("metrics")).fetchall() == [
        ("first", 0, 1, 10.0),
        ("first", 1, 2, 12.0),
        ("second", 0, 1, 10.0),
        ("second", 1, 1, 99.0),
    ]
    assert ("first", 1, 1, 99.0) in catalog.execute(values.format("metrics_all_attempts")).fetchall()
    for view in VIEWS:
        counts = f"select count(distinct (run, generation, attempt)) from {view}"
        assert catalog.execute(counts).fetchall() == [(4,)]
        assert catalog.execute(f"{counts}_all_attempts").fetchall() == [(5,)]


def test_a_rejected_attempt_stays_queryable_with_its_reason(two_runs: Path) -> None:
    assert _asked(two_runs, "select run, generation, attempt, reason from journal where event = 'rejected'") == [
        ("first", 1, 1, "perplexity rose")
    ]
    assert _asked(two_runs, "select run, attempt from generations_all_attempts where not accepted") == [("first", 1)]


def test_a_generation_is_summed_up_from_its_manifests(two_runs: Path) -> None:
    model = read_manifest(Attempt(Run(two_runs, "first"), 1, 2).folder / "model")
    columns = "candidates, survivors, corpus, human, human_fraction, tokens, generated_tokens, snapshot, accepted"
    found = _asked(two_runs, f"select {columns}, model from generations where run = 'first' and generation = 1")
    assert found == [(2, 1, 4, 3, 0.75, 9, 20, 1, True, model["fingerprint"])]


def test_a_run_is_described_by_its_recipe(two_runs: Path) -> None:
    assert _asked(two_runs, "select * from runs where run = 'first'") == [
        ("first", "does it collapse?", "letters", "anchor", "ngram", "ngram", 2, 7, None, None)
    ]


def test_lineage_joins_every_artifact_to_what_it_was_made_from(two_runs: Path) -> None:
    edges = "select artifact, parent from lineage where run = 'second' and generation = 0 order by all"
    assert _asked(two_runs, edges) == [
        ("corpus", "decisions"),
        ("decisions", "candidates"),
        ("eval_samples", "model"),
        ("metrics", "model"),
        ("model", "corpus"),
    ]
    joined = """select count(*) from lineage child join lineage parent
        on child.parent_fingerprint = parent.fingerprint and child.run = parent.run
        and child.generation = parent.generation and child.attempt = parent.attempt"""
    # Of the five edges of an attempt, the one to its candidates has no parent of its own; two lead to the model.
    assert _asked(two_runs, joined) == [(4 * 5,)]


def test_records_hold_human_and_synthetic_texts_side_by_side(two_runs: Path) -> None:
    assert _asked(two_runs, "select origin, count(*) from records group by all order by all") == [
        ("human", 3),
        ("synthetic", 8),
    ]


def test_evaluation_sets_say_their_human_text_and_name_and_every_look_counts(two_runs: Path) -> None:
    assert _asked(two_runs, "select text, dataset, eval_set from eval_records") == [("exam", "letters", "exam")]
    assert _asked(two_runs, "select id from eval_exposures order by all") == [("h-1",), ("h-2",)]
    model = read_manifest(Attempt(Run(two_runs, "first"), 0).folder / "model")["fingerprint"]
    assert _asked(two_runs, QUERIES["eval_exposure"]) == [
        ("letters", "exam", "corpus", "first", 0, 1, model, 2, 1, 1.0, None)
    ]


def test_contamination_is_listed_by_generation_without_rejected_attempts(two_runs: Path) -> None:
    rows = _asked(two_runs, QUERIES["contamination"])
    assert rows[0] == ("first", 0, "human_heldout", "human", 3, 1, 0.7, None)
    assert len(rows) == 4
    assert _asked(two_runs, "select distinct contaminated from generations") == [(1,)]


def test_human_texts_say_their_name_and_snapshot(two_runs: Path) -> None:
    assert _asked(two_runs, "select text, dataset, snapshot from human_heldout") == [("human_heldout", "letters", 1)]


def test_one_run_can_be_asked_alone(two_runs: Path) -> None:
    catalog = open_catalog(two_runs, ["second"])
    for view in ("metrics", "journal", "generations", "runs", "lineage"):
        assert catalog.execute(f"select distinct run from {view}").fetchall() == [("second",)]


def test_what_is_not_finished_is_not_there(two_runs: Path) -> None:
    draft = Attempt(Run(two_runs, "first"), 2).folder / ".metrics.draft"
    draft.mkdir(parents=True)
    (draft / "part-00000.parquet").write_bytes(b"half")
    assert _asked(two_runs, "select max(generation) from metrics_all_attempts") == [(1,)]


def test_a_file_that_no_manifest_lists_is_not_counted(two_runs: Path) -> None:
    folder = Attempt(Run(two_runs, "second"), 0).folder / "metrics"
    for name in ("copy.parquet", ".part-00001.parquet"):
        (folder / name).write_bytes((folder / "part-00000.parquet").read_bytes())
    assert _asked(two_runs, "select count(*) from metrics where run = 'second' and generation = 0") == [(1,)]


def test_a_lost_part_is_an_error_and_not_fewer_rows(two_runs: Path) -> None:
    (Attempt(Run(two_runs, "second"), 0).folder / "metrics" / "part-00000.parquet").unlink()
    with pytest.raises(ArtifactMissingError, match=r"is missing part-00000\.parquet"):
        open_catalog(two_runs)


@pytest.mark.parametrize("name", ["it's mine", "runs [old]", "what?", "a*b"])
def test_any_folder_name_can_hold_a_store(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path / name, "first")
    run.initialize(RECIPE, set(), {})
    live(run, 0)
    assert _asked(tmp_path / name, "select run, value from metrics") == [("first", 10.0)]


def test_a_name_with_a_quote_is_no_run_and_asks_for_nothing(two_runs: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a run"):
        Run(two_runs, "it's")
    assert open_catalog(two_runs, ["it's"]).execute("select count(*) from metrics").fetchall() == [(0,)]


def test_no_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no store at .*Create one with: heirloom demo"):
        open_catalog(tmp_path / "nowhere")


def test_asking_changes_nothing(two_runs: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in two_runs.rglob("*") if path.is_file()}

    before = contents()
    _asked(two_runs, "select * from records")
    assert contents() == before


def test_a_record_of_several_snapshots_is_one_record(two_runs: Path) -> None:
    row = [{"id": "h-1", "text": "human_train", "origin": "human"}, {"id": "h-2", "text": "new", "origin": "human"}]
    publish(Artifact(human_folder(two_runs, "letters", 2) / "human_train", {}), records.HUMAN_RECORDS, row)
    assert _asked(two_runs, "select id, count(*) from records where run is null group by all order by all") == [
        ("h-1", 1),
        ("h-2", 1),
    ]


def test_a_column_that_older_files_lack_is_null(two_runs: Path) -> None:
    for path in two_runs.glob("runs/*/*/*/corpus/part-00000.parquet"):
        write_parquet(pq.read_table(path).drop_columns(["weight"]), path)
    assert _asked(two_runs, "select distinct weight, typeof(weight) from corpus") == [(None, "DOUBLE")]


def test_a_question_about_one_generation_opens_the_files_of_that_one_alone(two_runs: Path) -> None:
    ((_, plan),) = _asked(
        two_runs, "explain analyze select count(*) from corpus where run = 'first' and generation = 1"
    )
    assert "Scanning Files: 1/4" in plan


def test_a_recipe_has_a_row_for_each_field(two_runs: Path) -> None:
    rows = _asked(two_runs, "select field, value from recipes where run = 'first' and field like '%.%' order by all")
    assert rows == [("generate.sampler", '"ngram"'), ("mix.policy", '"anchor"'), ("train.backend", '"ngram"')]


@pytest.mark.parametrize("name", ["plain", "it's mine", "runs [old]*"])
def test_a_catalog_file_finds_its_store_from_anywhere_and_after_a_move(
    two_runs: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(two_runs, two_runs / "catalog.duckdb")
    moved = two_runs.rename(tmp_path / name)
    monkeypatch.chdir("/")
    with duckdb.connect(moved / "catalog.duckdb", read_only=True) as opened:
        assert opened.sql("select count(*), count(text) from records").fetchall() == [(11, 11)]
        assert opened.sql("select count(*) from generations").fetchall() == [(4,)]


def test_a_catalog_file_can_stand_elsewhere_and_be_attached(two_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    file = tmp_path / "beside" / "catalog.duckdb"
    write_catalog(two_runs, file)
    with duckdb.connect(file, read_only=True) as opened:
        assert opened.sql("select count(*) from metrics").fetchall() == [(4,)]
    with duckdb.connect() as other:
        other.execute(f"attach '{file}' as heirloom (read_only)")
        other.execute(f"set variable store = '{file.parent}'")
        assert other.sql("select count(*) from heirloom.metrics").fetchall() == [(4,)]


def test_a_catalog_file_is_written_again_while_somebody_reads_the_older_one(two_runs: Path) -> None:
    file = two_runs / "catalog.duckdb"
    write_catalog(two_runs, file)
    with duckdb.connect(file, read_only=True) as reader:
        live(Run(two_runs, "second"), 2)
        write_catalog(two_runs, file)
        assert reader.sql("select count(*) from metrics").fetchall() == [(4,)]
    with duckdb.connect(file, read_only=True) as reader:
        assert reader.sql("select count(*) from metrics").fetchall() == [(5,)]
    assert [path.name for path in two_runs.iterdir() if path.name.startswith(".")] == []


def test_a_catalog_file_without_a_folder_is_refused(two_runs: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        write_catalog(two_runs, two_runs / "none" / "catalog.duckdb")
