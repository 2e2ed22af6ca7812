import re
from pathlib import Path

import pytest

from tasks.evaluation.custom_metrics import run_custom_metrics, source_hashes

_CODE = """
def length(texts):
    return {"mean_length": sum(map(len, texts)) / len(texts)}

def files(model):
    return {"files": len(list(model.iterdir()))}

def broken(texts):
    raise KeyError("lost")

def nothing(texts):
    return {"score": float("nan")}

def number(texts):
    return 3

def other(corpus):
    return {}
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(_CODE)
    return path


def test_a_function_gets_texts_or_the_model_by_the_name_of_its_parameter(code: Path) -> None:
    paths = (f"{code}:length", f"{code}:files")
    (found,) = run_custom_metrics(paths, "texts", ["a", "abc"], 2)
    assert (found.metric, found.value, found.sample_size) == ("custom.mean_length", 2.0, 2)
    # Python may leave its bytecode beside the function.
    model = code.parent / "model"
    model.mkdir()
    (model / "weights").touch()
    (found,) = run_custom_metrics(paths, "model", model, 0)
    assert (found.metric, found.value) == ("custom.files", 1.0)


def test_another_evaluation_has_another_digest(code: Path) -> None:
    path = f"{code}:length"
    before = source_hashes([path])
    assert source_hashes([path]) == before
    code.write_text(_CODE + "# changed\n")
    assert source_hashes([path]) != before


def test_a_module_by_its_name_is_found() -> None:
    with pytest.raises(ValueError, match="the first parameter is named 's'"):
        run_custom_metrics(["json:loads"], "texts", [], 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "failed: KeyError: 'lost'"),
        ("nothing", "returned 'score': nan. Every value must be a finite number"),
        ("number", "returned int. Return a dict of numbers by name"),
        ("other", "the first parameter is named 'corpus'. Name it texts or model"),
        ("missing", "there is no missing in"),
    ],
)
def test_an_invalid_custom_metric_is_an_error_in_one_sentence(code: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        run_custom_metrics([f"{code}:{name}"], "texts", ["a"], 1)


@pytest.mark.parametrize("path", ["mine", "nowhere.at.all:f", "absent.py:f", ":f", "m:"])
def test_what_is_no_import_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"evaluate\.custom_metrics"):
        run_custom_metrics([path], "texts", [], 0)
