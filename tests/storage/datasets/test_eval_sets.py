from pathlib import Path

import pyarrow as pa
import pytest

from storage.artifacts.artifact import Artifact, ArtifactMissingError
from storage.artifacts.schemas import HUMAN_RECORDS
from storage.datasets.eval_sets import eval_set_folder, list_eval_sets, load_eval_set, require_eval_sets
from storage.query.catalog import open_catalog


def _exam(root: Path, name: str, human: str = "letters") -> Artifact:
    artifact = Artifact(eval_set_folder(root, human, name) / "records", {"documents": name})
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist([{"id": "h-1", "text": name}], schema=HUMAN_RECORDS))
    return artifact


def test_a_set_is_there_once_its_records_are_finished(tmp_path: Path) -> None:
    made = _exam(tmp_path, "exam")
    (eval_set_folder(tmp_path, "letters", "half") / "rejected_documents").mkdir(parents=True)
    _exam(tmp_path, "another")
    _exam(tmp_path, "other", human="diaries")
    assert list_eval_sets(tmp_path, "letters") == ["another", "exam"]
    assert list_eval_sets(tmp_path, "no-such-dataset") == []
    assert load_eval_set(tmp_path, "letters", "exam") == made
    assert load_eval_set(tmp_path, "letters", "exam").fingerprint == made.fingerprint


def test_a_set_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    _exam(tmp_path, "exam")
    require_eval_sets(tmp_path, "letters", ["exam"])
    with pytest.raises(
        ArtifactMissingError,
        match=r"no eval set 'quiz' of letters\. Eval sets: exam\. To add it: heirloom add-eval-set",
    ):
        require_eval_sets(tmp_path, "letters", ["exam", "quiz"])


@pytest.mark.parametrize("name", ["", "a/b", "..", "it's", "human_heldout", "human_train", "all"])
def test_a_name_that_means_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name an eval set"):
        eval_set_folder(tmp_path, "letters", name)


def test_the_view_has_dataset_and_eval_set_of_each_record(tmp_path: Path) -> None:
    _exam(tmp_path / "it's", "exam", human="diaries")
    catalog = open_catalog(tmp_path / "it's")
    assert catalog.execute("select id, dataset, eval_set from eval_records").fetchall() == [("h-1", "diaries", "exam")]
    assert catalog.execute("select * from eval_exposures").fetchall() == []
