from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from storage import records
from storage.artifact import AbsentError, Artifact, read_manifest
from storage.catalog import open_catalog
from storage.evaluation import evaluation_folder
from storage.questions import QUESTIONS
from storage.run import Attempt, Run, human_folder

VIEWS = {
    "candidates": records.CANDIDATES.names,
    "decisions": records.DECISIONS.names,
    "corpus": records.CORPUS.names,
    "metrics": records.METRICS.names,
    "verdicts": records.VERDICTS.names,
    "voice": records.VOICE.names,
    "training": records.TRAINING.names,
    "kept_out": records.DECISIONS.names,
    "contamination": records.CONTAMINATION.names,
}
EVALUATION_VIEWS = {"evaluation": records.RESERVE, "evaluation_set_aside": records.SET_ASIDE, "met": records.MET}
HUMAN_VIEWS = {"reserve": records.RESERVE, "heldout": records.RESERVE, "set_aside": records.SET_ASIDE}
RECIPE = {
    "question": "does it collapse?",
    "human": "letters",
    "mix": {"policy": "anchor"},
    "train": {"backend": "ngram"},
    "generate": {"sampler": "ngram"},
    "generations": 2,
    "seed": 7,
}


def _publish(artifact: Artifact, schema: pa.Schema, rows: Sequence[Mapping[str, Any]], **facts: object) -> Artifact:
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist(list(rows), schema=schema))
        draft.facts = facts
    return artifact


def _live(run: Run, generation: int, number: int = 1, perplexity: float = 10.0) -> None:
    """Publish a small attempt: two candidates, of which one goes, and what follows from that."""
    attempt = Attempt(run, generation, number)
    run.note("began", generation, number, snapshot=1)
    names = [records.synthetic_id(generation, number, serial) for serial in range(2)]
    candidates = _publish(
        attempt.artifact("candidates", {"seed": number}),
        records.CANDIDATES,
        [{"id": one, "text": f"text {one}", "origin": "synthetic", "born": generation} for one in names],
        generated_tokens=20,
    )
    decisions = _publish(
        attempt.artifact("decisions", {}, candidates=candidates),
        records.DECISIONS,
        [
            {"id": names[0], "stage": "exact", "kept": True, "reason": ""},
            {"id": names[1], "stage": "exact", "kept": False, "reason": "says the same", "evidence": 1.0},
        ],
        survivors=1,
    )
    corpus = _publish(
        attempt.artifact("corpus", {}, decisions=decisions),
        records.CORPUS,
        [{"id": names[0], "weight": 1.0}],
        corpus=4,
        human=3,
        human_fraction=0.75,
        snapshot=1,
    )
    model = _publish(
        attempt.artifact("model", {}, corpus=corpus), records.TRAINING, [{"step": 1, "loss": 2.0}], tokens=9
    )
    _publish(
        attempt.artifact("metrics", {}, model=model),
        records.METRICS,
        [{"subject": "model", "metric": "perplexity", "source": "all", "value": perplexity}],
    )
    _publish(
        attempt.artifact("voice", {}, model=model),
        records.VOICE,
        [{"prompt": "The", "text": "The old", "seed": 1}, {"prompt": "", "text": "free", "seed": 2}],
    )
    _publish(attempt.artifact("kept_out", {}), records.DECISIONS, [{"id": "h-1", "stage": "contamination"}])
    row = {"withheld": "heldout", "origin": "human", "compared": 3, "overlapping": 1, "similarity": 0.7}
    _publish(attempt.artifact("contamination", {}), records.CONTAMINATION, [row], contaminated=1)
    _publish(attempt.artifact("verdict", {}), records.VERDICTS, [{"action": "go", "metric": "perplexity"}])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two runs; the first attempt at generation 1 of one of them was rejected."""
    root = tmp_path / "store"
    for side, schema in HUMAN_VIEWS.items():
        row = {
            "id": "h-1",
            "source": "letters.txt",
            **({} if side == "set_aside" else {"text": side, "origin": "human"}),
        }
        _publish(Artifact(human_folder(root, "letters", 1) / side, {}), schema, [row])
    exam = evaluation_folder(root, "letters", "exam")
    _publish(Artifact(exam / "records", {}), records.RESERVE, [{"id": "h-2", "text": "exam", "origin": "human"}])
    _publish(Artifact(exam / "set_aside", {}), records.SET_ASIDE, [{"stage": "read"}])
    met = {"place": "corpus", "run": "first", "generation": 0, "attempt": 1, "keeper": "h-2"}
    for look in (1, 2):
        rows = [{**met, "id": f"h-{look}", "similarity": look / 2}]
        _publish(Artifact(exam / f"met={look}", {}), records.MET, rows)
    for name in ("first", "second"):
        run = Run(root, name)
        run.begin(RECIPE, set(), {})
        _live(run, 0)
        _live(run, 1, 1, perplexity=99.0)
        if name == "first":
            run.note("rejected", 1, 1, "perplexity rose")
            _live(run, 1, 2, perplexity=12.0)
    return root


def _columns(catalog: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    return [row[0] for row in catalog.execute(f"describe {view}").fetchall()]


def _asked(root: Path, question: str) -> list[tuple[Any, ...]]:
    return open_catalog(root).execute(question).fetchall()


def test_an_empty_store_has_every_view_with_its_columns(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path)
    for view, columns in VIEWS.items():
        for name in (view, f"{view}_all"):
            assert _columns(catalog, name) == [*columns, "run", "generation", "attempt"]
            assert catalog.execute(f"select count(*) from {name}").fetchall() == [(0,)]
    for view, schema in HUMAN_VIEWS.items():
        assert _columns(catalog, view) == [*schema.names, "human", "snapshot"]
    for view, schema in EVALUATION_VIEWS.items():
        assert _columns(catalog, view) == [*schema.names, "human", "withheld"]
    for view in ("journal", "generations", "generations_all", "runs", "lineage", "records"):
        assert _columns(catalog, view)[0] in ("run", "id")
        assert catalog.execute(f"select * from {view}").fetchall() == []


def test_views_have_the_same_columns_and_types_with_and_without_records(store: Path, tmp_path: Path) -> None:
    full, empty = open_catalog(store), open_catalog(tmp_path)
    others = ("journal", "generations", "generations_all", "runs", "lineage", "records")
    for name in (*VIEWS, *(f"{view}_all" for view in VIEWS), *HUMAN_VIEWS, *EVALUATION_VIEWS, *others):
        one, other = (catalog.execute(f"describe {name}").fetchall() for catalog in (full, empty))
        assert [row[:2] for row in one] == [row[:2] for row in other]


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_named_question_has_an_answer_on_a_full_and_on_an_empty_store(
    question: str, store: Path, tmp_path: Path
) -> None:
    assert _asked(store, QUESTIONS[question])
    assert _asked(tmp_path, QUESTIONS[question]) == []


def test_views_show_accepted_attempts_and_all_show_every_attempt(store: Path) -> None:
    catalog = open_catalog(store)
    values = "select run, generation, attempt, value from {} order by all"
    assert catalog.execute(values.format("metrics")).fetchall() == [
        ("first", 0, 1, 10.0),
        ("first", 1, 2, 12.0),
        ("second", 0, 1, 10.0),
        ("second", 1, 1, 99.0),
    ]
    assert ("first", 1, 1, 99.0) in catalog.execute(values.format("metrics_all")).fetchall()
    for view in VIEWS:
        counts = f"select count(distinct (run, generation, attempt)) from {view}"
        assert catalog.execute(counts).fetchall() == [(4,)]
        assert catalog.execute(f"{counts}_all").fetchall() == [(5,)]


def test_a_rejected_attempt_stays_queryable_with_its_reason(store: Path) -> None:
    assert _asked(store, "select run, generation, attempt, reason from journal where event = 'rejected'") == [
        ("first", 1, 1, "perplexity rose")
    ]
    assert _asked(store, "select run, attempt from generations_all where not accepted") == [("first", 1)]


def test_a_generation_is_summed_up_from_its_manifests(store: Path) -> None:
    model = read_manifest(Attempt(Run(store, "first"), 1, 2).folder / "model")
    columns = "candidates, survivors, corpus, human, human_fraction, tokens, generated_tokens, snapshot, accepted"
    found = _asked(store, f"select {columns}, model from generations where run = 'first' and generation = 1")
    assert found == [(2, 1, 4, 3, 0.75, 9, 20, 1, True, model["fingerprint"])]


def test_a_run_is_described_by_its_recipe(store: Path) -> None:
    assert _asked(store, "select * from runs where run = 'first'") == [
        ("first", "does it collapse?", "letters", "anchor", "ngram", "ngram", 2, 7, None, None)
    ]


def test_lineage_joins_every_artifact_to_what_it_was_made_from(store: Path) -> None:
    edges = "select artifact, parent from lineage where run = 'second' and generation = 0 order by all"
    assert _asked(store, edges) == [
        ("corpus", "decisions"),
        ("decisions", "candidates"),
        ("metrics", "model"),
        ("model", "corpus"),
        ("voice", "model"),
    ]
    joined = """select count(*) from lineage child join lineage parent
        on child.parent_fingerprint = parent.fingerprint and child.run = parent.run
        and child.generation = parent.generation and child.attempt = parent.attempt"""
    # Of the five edges of an attempt, the one to its candidates has no parent of its own; two lead to the model.
    assert _asked(store, joined) == [(4 * 5,)]


def test_records_hold_human_and_synthetic_texts_side_by_side(store: Path) -> None:
    assert _asked(store, "select origin, count(*) from records group by all order by all") == [
        ("human", 3),
        ("synthetic", 8),
    ]


def test_evaluation_sets_say_their_human_text_and_name_and_every_look_counts(store: Path) -> None:
    assert _asked(store, "select text, human, withheld from evaluation") == [("exam", "letters", "exam")]
    assert _asked(store, "select id from met order by all") == [("h-1",), ("h-2",)]
    model = read_manifest(Attempt(Run(store, "first"), 0).folder / "model")["fingerprint"]
    assert _asked(store, QUESTIONS["met_evaluation"]) == [
        ("letters", "exam", "corpus", "first", 0, 1, model, 2, 1, 1.0, None)
    ]


def test_contamination_is_told_by_generation_and_never_of_a_rejected_attempt(store: Path) -> None:
    told = _asked(store, QUESTIONS["decontamination"])
    assert told[0] == ("first", 0, "heldout", "human", 3, 1, 0.7, None)
    assert len(told) == 4
    assert _asked(store, "select distinct contaminated from generations") == [(1,)]


def test_human_texts_say_their_name_and_snapshot(store: Path) -> None:
    assert _asked(store, "select text, human, snapshot from heldout") == [("heldout", "letters", 1)]


def test_one_run_can_be_asked_alone(store: Path) -> None:
    catalog = open_catalog(store, ["second"])
    for view in ("metrics", "journal", "generations", "runs", "lineage"):
        assert catalog.execute(f"select distinct run from {view}").fetchall() == [("second",)]


def test_what_is_not_finished_is_not_there(store: Path) -> None:
    draft = Attempt(Run(store, "first"), 2).folder / ".metrics.draft"
    draft.mkdir(parents=True)
    (draft / "part-00000.parquet").write_bytes(b"half")
    assert _asked(store, "select max(generation) from metrics_all") == [(1,)]


def test_a_file_that_no_manifest_lists_is_not_counted(store: Path) -> None:
    folder = Attempt(Run(store, "second"), 0).folder / "metrics"
    for name in ("copy.parquet", ".part-00001.parquet"):
        (folder / name).write_bytes((folder / "part-00000.parquet").read_bytes())
    assert _asked(store, "select count(*) from metrics where run = 'second' and generation = 0") == [(1,)]


def test_a_lost_part_is_an_error_and_not_fewer_rows(store: Path) -> None:
    (Attempt(Run(store, "second"), 0).folder / "metrics" / "part-00000.parquet").unlink()
    with pytest.raises(AbsentError, match=r"has lost part-00000\.parquet"):
        open_catalog(store)


@pytest.mark.parametrize("name", ["it's mine", "runs [old]", "what?", "a*b"])
def test_any_folder_name_can_hold_a_store(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path / name, "first")
    run.begin(RECIPE, set(), {})
    _live(run, 0)
    assert _asked(tmp_path / name, "select run, value from metrics") == [("first", 10.0)]


def test_a_name_with_a_quote_is_no_run_and_asks_for_nothing(store: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a run"):
        Run(store, "it's")
    assert open_catalog(store, ["it's"]).execute("select count(*) from metrics").fetchall() == [(0,)]


def test_no_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no store at .*make one with: heirloom demo"):
        open_catalog(tmp_path / "nowhere")


def test_asking_changes_nothing(store: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}

    before = contents()
    _asked(store, "select * from records")
    assert contents() == before
