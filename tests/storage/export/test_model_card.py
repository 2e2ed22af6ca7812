"""A model as a folder that others open, absent or finished."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage.artifacts.artifact import read_manifest
from storage.artifacts.model_files import remove_weights
from storage.export.model_card import export_model


def test_a_model_is_exported_with_its_log_and_a_card(finished_store: Path, tmp_path: Path) -> None:
    folder = export_model(finished_store, "tiny", None, tmp_path / "out")
    manifest = read_manifest(finished_store / "runs/tiny/generation=3/attempt=1/model")
    card = (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == {"README.md", "ngram.json", "training.parquet"}
    assert "# tiny, generation 3\n" in card
    assert manifest["fingerprint"] in card
    assert f"{manifest['facts']['human_token_fraction']:.2%} were human" in card
    assert "| not stated | 0, 1, 2, 3 |" in card
    assert "| perplexity | all |" in card
    assert "tokens_per_second" in pq.read_schema(folder / "training.parquet").names


def test_a_generation_of_ones_choice_is_exported(finished_store: Path, tmp_path: Path) -> None:
    folder = export_model(finished_store, "tiny", 1, tmp_path / "one")
    weights = finished_store / "runs/tiny/generation=1/attempt=1/model/ngram.json"
    assert (folder / "ngram.json").read_bytes() == weights.read_bytes()
    assert "| human | " in (folder / "README.md").read_text()


def test_an_adapter_takes_its_base_with_it(store: Path, tmp_path: Path) -> None:
    from storage.export.model_card import _copy_model

    attempt = store / "runs/tiny/generation=1/attempt=1"
    base = store / "runs/tiny/generation=0/attempt=1/model"
    (base / "config.json").write_text("{}")
    (attempt / "adapter").mkdir()
    for name, content in (
        ("adapter_config.json", {"base_model_name_or_path": "../../../generation=0/attempt=1/model"}),
    ):
        (attempt / "adapter" / name).write_text(json.dumps(content))
    (attempt / "adapter" / "_manifest.json").write_text(json.dumps({"format": 3, "files": {"adapter_config.json": {}}}))
    (tmp_path / "out").mkdir()
    assert _copy_model(attempt / "adapter", tmp_path / "out") == "base"
    assert (tmp_path / "out" / "base" / "config.json").exists()
    assert not (tmp_path / "out" / "base" / "_manifest.json").exists()
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


@pytest.mark.parametrize(
    ("run", "generation", "message"),
    [("ghost", None, "There is no run ghost"), ("tiny", 9, "Run tiny has no model of generation 9 yet")],
)
def test_what_is_not_there_is_refused(
    finished_store: Path, tmp_path: Path, run: str, generation: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export_model(finished_store, run, generation, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_and_weights_that_are_gone_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exists already"):
        export_model(store, "tiny", 2, tmp_path)
    remove_weights(store / "runs/tiny/generation=2/attempt=1/model")
    with pytest.raises(ValueError, match="were removed by heirloom gc"):
        export_model(store, "tiny", 2, tmp_path / "out")
