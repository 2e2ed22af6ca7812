import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from curation.user_code import FILTERS, METRICS, PROMPT_TEMPLATES, REWARDS

_CODE = "def score(texts):\n    return {'score': 1.0}\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(_CODE)
    return path


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: Path) -> None:
    """An installed package that declares one metric."""
    metadata = tmp_path / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[heirloom.metrics]\nmean_score = mine:score\n")
    monkeypatch.syspath_prepend(str(code.parent))
    importlib.invalidate_caches()


def test_an_import_path_names_an_object() -> None:
    assert REWARDS.load("collections:Counter") is Counter


def test_a_file_path_names_an_object(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert METRICS.load(f"{code}:score")([]) == {"score": 1.0}
    monkeypatch.chdir(code.parent)
    assert METRICS.load("mine.py:score") is METRICS.load(f"{code}:score")


def test_the_name_of_an_entry_point_names_an_object(entry_points: None) -> None:
    assert METRICS.load("mean_score")([]) == {"score": 1.0}
    assert METRICS.entry_point_names() == ["mean_score"]
    assert METRICS.source_hash("mean_score") == METRICS.source_hash("mine:score")
    sys.modules.pop("mine")


def test_an_unknown_name_gets_a_suggestion_and_the_known_names(entry_points: None) -> None:
    with pytest.raises(
        ValueError, match=r"no metric `men_score`\. Did you mean `mean_score`\? Known names: mean_score\."
    ):
        METRICS.load("men_score")
    with pytest.raises(ValueError, match=r"no filter `exct`\. Did you mean `exact`\? Known names: exact, minhash\."):
        FILTERS.load("exct", ["exact", "minhash"])


def test_a_misspelled_object_gets_a_suggestion(code: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no scor in .*\. Did you mean `score`"):
        METRICS.load(f"{code}:scor")


@pytest.mark.parametrize(
    "reference",
    ["nowhere.to_be:found", "collections:nothing", "string:digits", "collections", "absent.py:f", ":f", "m:"],
)
def test_what_cannot_be_loaded_is_refused_with_the_setting_and_the_reference(reference: str) -> None:
    with pytest.raises(ValueError, match=r"prompts\.template_name: ") as refused:
        PROMPT_TEMPLATES.load(reference)
    assert reference.split(":", maxsplit=1)[0] in str(refused.value)


def test_a_file_with_a_syntax_error_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:")
    with pytest.raises(ValueError, match="cannot be imported"):
        METRICS.load(f"{tmp_path}/broken.py:score")


def test_changed_source_has_another_hash_and_is_loaded_again(code: Path) -> None:
    reference = f"{code}:score"
    before = METRICS.source_hash(reference)
    assert METRICS.source_hash(reference) == before
    code.write_text(_CODE.replace("1.0", "2.0"))
    assert METRICS.source_hash(reference) != before
    assert METRICS.load(reference)([]) == {"score": 2.0}


def test_compiled_code_has_no_digest() -> None:
    assert METRICS.source_hash("builtins:len") == ""
