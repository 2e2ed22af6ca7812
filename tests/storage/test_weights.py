from pathlib import Path

import pytest

from storage.artifact import AbsentError, read_table
from storage.weights import remove_weights, removed_weights, require_weights, weight_files


@pytest.fixture
def model(store: Path) -> Path:
    return store / "runs/tiny/generation=1/attempt=1/model"


def test_a_model_keeps_its_loss_curve_and_its_manifest(model: Path) -> None:
    curve, manifest = read_table(model), (model / "_manifest.json").read_bytes()
    files = weight_files(model)
    assert files == ["ngram.json"]
    require_weights(model)
    remove_weights(model)
    assert removed_weights(model) == set(files)
    assert not (model / "ngram.json").exists()
    assert read_table(model).equals(curve)
    assert (model / "_manifest.json").read_bytes() == manifest


def test_who_needs_removed_weights_is_told_when_they_went(model: Path) -> None:
    remove_weights(model)
    with pytest.raises(AbsentError, match=r"removed by heirloom gc on \d{4}-\d\d-\d\d"):
        require_weights(model)


def test_a_removal_that_was_cut_off_is_brought_to_its_end(model: Path) -> None:
    content = (model / "ngram.json").read_bytes()
    remove_weights(model)
    (model / "ngram.json").write_bytes(content)
    remove_weights(model)
    assert removed_weights(model) == {"ngram.json"}


def test_weights_that_are_put_back_are_there(model: Path) -> None:
    content = (model / "ngram.json").read_bytes()
    remove_weights(model)
    (model / "ngram.json").write_bytes(content)
    require_weights(model)
    assert not removed_weights(model)
