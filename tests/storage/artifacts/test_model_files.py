from pathlib import Path

import pytest

from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_table
from storage.artifacts.model_files import (
    ADAPTER_CONFIG,
    base_artifact_of,
    ensure_loadable,
    remove_weights,
    removed_weight_files,
    require_weights,
    weight_files,
)
from storage.remote.mirror import sync


@pytest.fixture
def model(store: Path) -> Path:
    return store / "runs/tiny/generation=1/attempt=1/model"


def test_a_model_keeps_its_loss_curve_and_its_manifest(model: Path) -> None:
    curve, manifest = read_table(model), (model / "_manifest.json").read_bytes()
    files = weight_files(model)
    assert files == ["ngram.json"]
    require_weights(model)
    remove_weights(model)
    assert removed_weight_files(model) == set(files)
    assert not (model / "ngram.json").exists()
    assert read_table(model).equals(curve)
    assert (model / "_manifest.json").read_bytes() == manifest


def test_requiring_removed_weights_names_the_day_of_their_removal(model: Path) -> None:
    remove_weights(model)
    with pytest.raises(ArtifactMissingError, match=r"removed by heirloom gc on \d{4}-\d\d-\d\d"):
        require_weights(model)


def test_a_removal_that_was_cut_off_is_brought_to_its_end(model: Path) -> None:
    content = (model / "ngram.json").read_bytes()
    remove_weights(model)
    (model / "ngram.json").write_bytes(content)
    remove_weights(model)
    assert removed_weight_files(model) == {"ngram.json"}


def test_weights_that_are_put_back_are_there(model: Path) -> None:
    content = (model / "ngram.json").read_bytes()
    remove_weights(model)
    (model / "ngram.json").write_bytes(content)
    require_weights(model)
    assert not removed_weight_files(model)


def _adapter_over(root: Path) -> tuple[Artifact, Artifact]:
    """A base and an adapter on it, published in a store."""
    attempt = root / "runs" / "tuned" / "generation=0" / "attempt=1"
    base, model = Artifact(attempt / "base", {}), Artifact(attempt / "model", {})
    with base.draft() as draft:
        (draft.folder / "model.safetensors").write_bytes(b"weights")
    with model.draft() as draft:
        (draft.folder / ADAPTER_CONFIG).write_text('{"base_model_name_or_path": "../base"}')
        (draft.folder / "adapter_model.safetensors").write_bytes(b"a few")
    return base, model


def test_an_adapter_of_a_bucket_comes_with_its_base(bucket_url: str, tmp_path: Path) -> None:
    sync(tmp_path / "here", bucket_url)
    _, model = _adapter_over(tmp_path / "here")
    sync(tmp_path / "there", bucket_url)
    folder = tmp_path / "there" / model.folder.relative_to(tmp_path / "here")
    assert [path.name for path in (folder.parent / "base").iterdir()] == [MANIFEST]
    assert ensure_loadable(Artifact(folder, {})) == folder
    assert (folder.parent / "base" / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "adapter_model.safetensors").read_bytes() == b"a few"


def test_an_adapter_cannot_be_loaded_without_the_weights_of_its_base(tmp_path: Path) -> None:
    base, model = _adapter_over(tmp_path)
    assert base_artifact_of(model.folder) == base.folder
    assert base_artifact_of(base.folder) is None
    assert ensure_loadable(model) == model.folder
    remove_weights(base.folder)
    with pytest.raises(ArtifactMissingError, match=r"the weights of .*base were removed by heirloom gc"):
        ensure_loadable(model)
