from pathlib import Path

import pyarrow as pa
import pytest

from storage.artifacts.artifact import AbsentError, Artifact
from storage.artifacts.schemas import RESERVE
from storage.datasets.eval_sets import evaluation_folder, evaluation_set, evaluation_sets, refuse_unknown
from storage.query.catalog import open_catalog


def _exam(root: Path, name: str, human: str = "letters") -> Artifact:
    artifact = Artifact(evaluation_folder(root, human, name) / "records", {"documents": name})
    with artifact.draft() as draft:
        draft.write_part(pa.Table.from_pylist([{"id": "h-1", "text": name}], schema=RESERVE))
    return artifact


def test_a_set_is_there_once_its_records_are_finished(tmp_path: Path) -> None:
    made = _exam(tmp_path, "exam")
    (evaluation_folder(tmp_path, "letters", "half") / "set_aside").mkdir(parents=True)
    _exam(tmp_path, "another")
    _exam(tmp_path, "other", human="diaries")
    assert evaluation_sets(tmp_path, "letters") == ["another", "exam"]
    assert evaluation_sets(tmp_path, "nobody") == []
    assert evaluation_set(tmp_path, "letters", "exam") == made
    assert evaluation_set(tmp_path, "letters", "exam").fingerprint == made.fingerprint


def test_a_set_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    _exam(tmp_path, "exam")
    refuse_unknown(tmp_path, "letters", ["exam"])
    with pytest.raises(
        AbsentError, match=r"no evaluation set 'quiz' of letters; there are: exam\. Run: heirloom withhold"
    ):
        refuse_unknown(tmp_path, "letters", ["exam", "quiz"])


@pytest.mark.parametrize("name", ["", "a/b", "..", "it's", "heldout", "reserve", "all"])
def test_a_name_that_means_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name an evaluation set"):
        evaluation_folder(tmp_path, "letters", name)


def test_the_view_says_human_text_and_set(tmp_path: Path) -> None:
    _exam(tmp_path, "exam", human="it's")
    catalog = open_catalog(tmp_path)
    assert catalog.execute("select id, human, withheld from evaluation").fetchall() == [("h-1", "it's", "exam")]
    assert catalog.execute("select * from met").fetchall() == []
