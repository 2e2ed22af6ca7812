import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curation.splitting import EvalSetSettings, IngestSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import ArtifactMissingError, read_table
from storage.artifacts.ids import human_id
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.ingestion.eval_sets import add_eval_set
from tasks.ingestion.ingest import ingest, load_pinned_human
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_NEW_TEXTS = human_texts(8, seed=60)
_RECIPE = {
    "dataset": "letters",
    "description": "",
    "mix": {"policy": "anchor"},
    "train": {"backend": "ngram"},
    "generate": {"sampler": "ngram"},
    "num_generations": 1,
    "seed": 0,
}


@pytest.fixture
def generation_0(start_run: Callable[[str], StartedRun]) -> StartedRun:
    """Generation 0 of a run on the dataset `letters`."""
    started = start_run("tiny")
    started.run.initialize(_RECIPE, set(_RECIPE), {})
    return started


def _write_jsonl(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _exposures(root: Path) -> list[tuple]:
    return (
        open_catalog(root)
        .sql("select found_in, run, generation, id, duplicate_of from eval_exposures order by all")
        .fetchall()
    )


def test_adding_an_eval_set_changes_no_existing_file(generation_0: StartedRun, tmp_path: Path) -> None:
    root = generation_0.run.root
    before = _files(root)
    source = _write_jsonl(tmp_path / "exam.jsonl", [*_NEW_TEXTS, "?!", _NEW_TEXTS[0]])
    eval_set = add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert before.items() <= _files(root).items()
    assert read_table(eval_set["records"].folder)["text"].to_pylist() == _NEW_TEXTS
    rejected = read_table(eval_set["rejected_documents"].folder).to_pylist()
    assert [(row["row_number"], row["reason"], row["duplicate_of"]) for row in rejected] == [
        (8, "no words", None),
        (9, "exact duplicate", human_id(_NEW_TEXTS[0])),
    ]
    assert open_catalog(root).sql("select distinct dataset, eval_set from eval_records").fetchall() == [
        ("letters", "exam")
    ]


def test_exposures_are_listed_with_location_and_similarity(
    generation_0: StartedRun, publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    root, human = generation_0.run.root, read_table(generation_0.human.train.folder).to_pylist()[4]
    publish_candidates(generation_0.attempt(1), [_NEW_TEXTS[0] + " Indeed.", _NEW_TEXTS[5]])
    add_eval_set(
        root,
        "letters",
        "exam",
        [_write_jsonl(tmp_path / "exam.jsonl", [_NEW_TEXTS[0], human["text"]])],
        EvalSetSettings(),
    )
    assert _exposures(root) == [
        ("candidates", "tiny", 1, "g001-0000000", human_id(_NEW_TEXTS[0])),
        ("corpus", "tiny", 0, human["id"], human["id"]),
        ("human_train", None, None, human["id"], human["id"]),
    ]
    exposures = open_catalog(root).sql(QUERIES["eval_exposure"]).fetchall()
    model = generation_0.model.fingerprint
    assert ("letters", "exam", "corpus", "tiny", 0, 1, model, 1, 1, 1.0) in [row[:10] for row in exposures]


def test_a_second_check_covers_only_artifacts_that_are_new(
    generation_0: StartedRun, publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    root = generation_0.run.root
    load_pinned_human(
        generation_0.attempt(1), "letters"
    )  # begins before the eval set is added, and finishes afterwards
    source = _write_jsonl(tmp_path / "exam.jsonl", _NEW_TEXTS[:2])
    for _ in range(2):
        add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    folder = root / "human/letters/eval_sets/exam"
    assert sorted(path.name for path in folder.glob("eval_exposures=*")) == ["eval_exposures=1"]
    assert _exposures(root) == []
    publish_candidates(generation_0.attempt(1), [_NEW_TEXTS[1]])
    load_pinned_human(generation_0.attempt(2), "letters")  # begins afterwards, and excludes the eval set itself
    publish_candidates(generation_0.attempt(2), [_NEW_TEXTS[1]])
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert sorted(path.name for path in folder.glob("eval_exposures=*")) == ["eval_exposures=1", "eval_exposures=2"]
    assert _exposures(root) == [("candidates", "tiny", 1, "g001-0000000", human_id(_NEW_TEXTS[1]))]


def test_a_newer_snapshot_is_checked_too(generation_0: StartedRun, tmp_path: Path) -> None:
    root = generation_0.run.root
    source = _write_jsonl(tmp_path / "exam.jsonl", _NEW_TEXTS)
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    ingest(root, "letters", [_write_jsonl(tmp_path / "more.jsonl", _NEW_TEXTS)], IngestSettings())
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    rows = open_catalog(root).sql("select distinct found_in, snapshot from eval_exposures").fetchall()
    assert rows == [("human_train", 2)]


def test_an_interrupted_eval_set_is_completed_by_the_same_command(generation_0: StartedRun, tmp_path: Path) -> None:
    root = generation_0.run.root
    source = _write_jsonl(tmp_path / "exam.jsonl", _NEW_TEXTS)
    eval_set = add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    for folder in (eval_set["records"].folder, eval_set["records"].folder.with_name("eval_exposures=1")):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert open_catalog(root).sql("select count(*) from eval_records").fetchall() == [(8,)]
    assert eval_set["records"].folder.with_name("eval_exposures=1").exists()


def test_an_eval_set_cannot_be_changed(generation_0: StartedRun, tmp_path: Path) -> None:
    root = generation_0.run.root
    add_eval_set(root, "letters", "exam", [_write_jsonl(tmp_path / "exam.jsonl", _NEW_TEXTS)], EvalSetSettings())
    before = _files(root)
    message = r"Eval set exam of letters exists with other records .* add this one under another name"
    with pytest.raises(HeirloomError, match=message):
        add_eval_set(
            root, "letters", "exam", [_write_jsonl(tmp_path / "exam.jsonl", _NEW_TEXTS[:3])], EvalSetSettings()
        )
    assert _files(root) == before


@pytest.mark.parametrize(
    ("dataset", "texts", "error", "message"),
    [
        ("letters", ["?!", ""], HeirloomError, "none of 2 documents has text"),
        ("diaries", _NEW_TEXTS, ArtifactMissingError, "'diaries'"),
    ],
)
def test_an_eval_set_without_records_or_dataset_is_refused_and_nothing_is_written(
    generation_0: StartedRun, tmp_path: Path, dataset: str, texts: list[str], error: type, message: str
) -> None:
    root = generation_0.run.root
    before = _files(root)
    with pytest.raises(error, match=message):
        add_eval_set(root, dataset, "exam", [_write_jsonl(tmp_path / "exam.jsonl", texts)], EvalSetSettings())
    assert _files(root) == before


def test_documents_can_be_split_into_passages(generation_0: StartedRun, tmp_path: Path) -> None:
    (tmp_path / "exam.txt").write_text("\n\n".join(human_texts(30, seed=5)))
    settings = EvalSetSettings(passage_length_chars=(60, 200))
    eval_set = add_eval_set(generation_0.run.root, "letters", "exam", [str(tmp_path / "exam.txt")], settings)
    texts = read_table(eval_set["records"].folder)["text"].to_pylist()
    assert len(texts) > 20
    assert all(60 <= len(text) <= 200 for text in texts)


def test_an_eval_set_is_read_with_the_characters_of_csv_that_are_set(generation_0: StartedRun, tmp_path: Path) -> None:
    (tmp_path / "exam.csv").write_text("id;text\n" + "".join(f"1;{text}; so\n" for text in ["it was", *_NEW_TEXTS[:2]]))
    settings = EvalSetSettings(csv_delimiter=";")
    with pytest.raises(HeirloomError, match="none of 3 documents"):
        add_eval_set(generation_0.run.root, "letters", "broken", [str(tmp_path / "exam.csv")], settings)
    (tmp_path / "exam.csv").write_text("id;text\n" + "".join(f"1;{text}\n" for text in _NEW_TEXTS))
    eval_set = add_eval_set(generation_0.run.root, "letters", "exam", [str(tmp_path / "exam.csv")], settings)
    assert sorted(read_table(eval_set["records"].folder)["text"].to_pylist()) == sorted(_NEW_TEXTS)


def test_the_identity_of_an_eval_set_has_only_the_reading_settings_that_are_set() -> None:
    assert EvalSetSettings().identity() == {"text_column": "text", "passage_length_chars": None}
    assert EvalSetSettings(csv_quote="'").identity() == {**EvalSetSettings().identity(), "csv_quote": "'"}
