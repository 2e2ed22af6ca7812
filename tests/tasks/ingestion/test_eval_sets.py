"""An evaluation set comes in without touching the split, and says what had met it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curation.splitting import EvalSetSettings, IngestSettings
from storage.artifacts.artifact import ArtifactMissingError, read_table
from storage.artifacts.ids import human_id
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.ingestion.eval_sets import add_eval_set
from tasks.ingestion.ingest import ingest, load_pinned_human
from tests.conftest import human_texts
from tests.tasks.conftest import Beginning, Said

_NEW = human_texts(8, seed=60)
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
def begun(begin: Callable[[str], Beginning]) -> Beginning:
    """Generation 0 of a run on the letters."""
    made = begin("tiny")
    made.run.initialize(_RECIPE, set(_RECIPE), {})
    return made


def _written(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _met(root: Path) -> list[tuple]:
    return (
        open_catalog(root)
        .sql("select found_in, run, generation, id, duplicate_of from eval_exposures order by all")
        .fetchall()
    )


def test_a_set_is_added_and_nothing_else_changes(begun: Beginning, tmp_path: Path) -> None:
    root = begun.run.root
    before = _files(root)
    source = _written(tmp_path / "exam.jsonl", [*_NEW, "?!", _NEW[0]])
    made = add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert before.items() <= _files(root).items()
    assert read_table(made["records"].folder)["text"].to_pylist() == _NEW
    aside = read_table(made["rejected_documents"].folder).to_pylist()
    assert [(row["row_number"], row["reason"], row["duplicate_of"]) for row in aside] == [
        (8, "holds no record", None),
        (9, "says the same", human_id(_NEW[0])),
    ]
    assert open_catalog(root).sql("select distinct dataset, eval_set from eval_records").fetchall() == [
        ("letters", "exam")
    ]


def test_what_had_met_the_set_is_told_with_place_and_similarity(begun: Beginning, said: Said, tmp_path: Path) -> None:
    root, human = begun.run.root, read_table(begun.reserve.folder).to_pylist()[4]
    said(begun.attempt(1), [_NEW[0] + " Indeed.", _NEW[5]])
    add_eval_set(
        root, "letters", "exam", [_written(tmp_path / "exam.jsonl", [_NEW[0], human["text"]])], EvalSetSettings()
    )
    assert _met(root) == [
        ("candidates", "tiny", 1, "g001-0000000", human_id(_NEW[0])),
        ("corpus", "tiny", 0, human["id"], human["id"]),
        ("human_train", None, None, human["id"], human["id"]),
    ]
    told = open_catalog(root).sql(QUERIES["eval_exposure"]).fetchall()
    assert ("letters", "exam", "corpus", "tiny", 0, 1, begun.model.fingerprint, 1, 1, 1.0) in [row[:10] for row in told]


def test_a_second_look_sees_what_was_finished_since_and_repeats_nothing(
    begun: Beginning, said: Said, tmp_path: Path
) -> None:
    root = begun.run.root
    load_pinned_human(begun.attempt(1), "letters")  # began without the set, and is finished after it
    source = _written(tmp_path / "exam.jsonl", _NEW[:2])
    for _ in range(2):
        add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    folder = root / "human/letters/eval_sets/exam"
    assert sorted(path.name for path in folder.glob("eval_exposures=*")) == ["eval_exposures=1"]
    assert _met(root) == []
    said(begun.attempt(1), [_NEW[1]])
    load_pinned_human(begun.attempt(2), "letters")  # knows the set, and keeps it out itself
    said(begun.attempt(2), [_NEW[1]])
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert sorted(path.name for path in folder.glob("eval_exposures=*")) == ["eval_exposures=1", "eval_exposures=2"]
    assert _met(root) == [("candidates", "tiny", 1, "g001-0000000", human_id(_NEW[1]))]


def test_a_newer_snapshot_is_looked_at_too(begun: Beginning, tmp_path: Path) -> None:
    root = begun.run.root
    source = _written(tmp_path / "exam.jsonl", _NEW)
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    ingest(root, "letters", [_written(tmp_path / "more.jsonl", _NEW)], IngestSettings())
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    found = open_catalog(root).sql("select distinct found_in, snapshot from eval_exposures").fetchall()
    assert found == [("human_train", 2)]


def test_an_interrupted_set_is_finished_by_the_same_command(begun: Beginning, tmp_path: Path) -> None:
    root = begun.run.root
    source = _written(tmp_path / "exam.jsonl", _NEW)
    made = add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    for folder in (made["records"].folder, made["records"].folder.with_name("eval_exposures=1")):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    add_eval_set(root, "letters", "exam", [source], EvalSetSettings())
    assert open_catalog(root).sql("select count(*) from eval_records").fetchall() == [(8,)]
    assert made["records"].folder.with_name("eval_exposures=1").exists()


def test_a_set_does_not_change(begun: Beginning, tmp_path: Path) -> None:
    root = begun.run.root
    add_eval_set(root, "letters", "exam", [_written(tmp_path / "exam.jsonl", _NEW)], EvalSetSettings())
    before = _files(root)
    with pytest.raises(
        ValueError, match=r"exam of letters is there already and does not change .*give this one another"
    ):
        add_eval_set(root, "letters", "exam", [_written(tmp_path / "exam.jsonl", _NEW[:3])], EvalSetSettings())
    assert _files(root) == before


@pytest.mark.parametrize(
    ("human", "texts", "error", "sentence"),
    [
        ("letters", ["?!", ""], ValueError, "none of 2 documents can be a record"),
        ("diaries", _NEW, ArtifactMissingError, "there is no human text 'diaries'"),
    ],
)
def test_what_cannot_be_a_set_is_refused_and_nothing_is_written(
    begun: Beginning, tmp_path: Path, human: str, texts: list[str], error: type, sentence: str
) -> None:
    root = begun.run.root
    before = _files(root)
    with pytest.raises(error, match=sentence):
        add_eval_set(root, human, "exam", [_written(tmp_path / "exam.jsonl", texts)], EvalSetSettings())
    assert _files(root) == before


def test_documents_can_be_cut_into_passages(begun: Beginning, tmp_path: Path) -> None:
    (tmp_path / "exam.txt").write_text("\n\n".join(human_texts(30, seed=5)))
    settings = EvalSetSettings(passage_length_chars=(60, 200))
    made = add_eval_set(begun.run.root, "letters", "exam", [str(tmp_path / "exam.txt")], settings)
    texts = read_table(made["records"].folder)["text"].to_pylist()
    assert len(texts) > 20
    assert all(60 <= len(text) <= 200 for text in texts)
