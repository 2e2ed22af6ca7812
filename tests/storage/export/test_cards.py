"""Cards of datasets and models, Croissant metadata, Markdown."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt

from heirloom.markdown import markdown_table
from storage.artifacts.artifact import Artifact, read_manifest
from storage.artifacts.model_files import remove_weights
from storage.export.croissant import croissant
from storage.export.dataset_card import ExportedCorpus, dataset_card
from storage.export.markdown import front_matter
from storage.export.model_card import export_model
from tests.support.foreign import list_file


def exported_corpus(**changes: Any) -> ExportedCorpus:
    fields: dict[str, Any] = {
        "name": "anchor-generation-2-hf",
        "run": "anchor",
        "generation": 2,
        "recipe": {
            "description": "does it | hold?",
            "mix": {"policy": "anchor", "num_records": None},
            "generate": {"sampler": "ngram", "temperature": 0.7},
            "train": {"backend": "ngram"},
            "curate": {"filters": ["exact", "minhash"]},
            "seed": 7,
        },
        "file": "corpus.parquet",
        "bytes": 10,
        "sha256": "0" * 64,
        "columns": [("id", "string"), ("source_generation", "int32"), ("weight", "double")],
        "counts": [("human", "letters.txt", "CC0-1.0", 3), ("synthetic", "", "", 1)],
        "facts": {"human_token_fraction": 0.5, "candidates": 2, "survivors": 1, "snapshot": 1},
        "metrics": [("model", "perplexity", 12.34567), ("model", "lost", None)],
        "lineage": [("corpus", "aaaa", "decisions_0", "bbbb")],
    }
    return ExportedCorpus(**{**fields, **changes})


@pytest.mark.processes
def test_a_card_lists_shares_sources_licenses_policy_sampler_metrics_and_lineage() -> None:
    card = dataset_card(exported_corpus())
    for line in (
        "| human | 3 | 75.00% |",
        "| synthetic | 1 | 25.00% |",
        "| human | letters.txt | CC0-1.0 | 3 |",
        "| synthetic | – | not stated | 1 |",
        "| mixing policy | policy anchor |",
        "| sampler | sampler ngram, temperature 0.7 |",
        "| filters | exact, minhash |",
        "| model | perplexity | 12.35 |",
        "| model | lost | – |",
        "| corpus | aaaa | decisions_0 | bbbb |",
        "| description | does it \\| hold? |",
    ):
        assert line in card.splitlines()
    assert "Of the tokens its model was trained on, 50.00% were human." in card


@pytest.mark.processes
@pytest.mark.parametrize(
    ("licenses", "lines"),
    [
        (["CC0-1.0"], ["license: cc0-1.0"]),
        (["PSF-2.0"], ["license: other", "license_name: PSF-2.0"]),
        (["MIT", "CC0-1.0"], ["license: other", "license_name: CC0-1.0, MIT"]),
        ([], ["license: unknown"]),
    ],
)
def test_the_front_matter_names_the_license_as_a_hub_knows_it(licenses: list[str], lines: list[str]) -> None:
    counts = [("human", "letters.txt", license, 1) for license in licenses] or [("synthetic", "", "", 1)]
    front = dataset_card(exported_corpus(counts=counts)).split("---")[1].splitlines()
    assert [line for line in front if line.startswith("license")] == lines
    assert yaml.safe_load("\n".join(front))["configs"][0]["data_files"] == [
        {"split": "train", "path": "corpus.parquet"}
    ]


@pytest.mark.processes
def test_many_sources_are_cut_and_counted() -> None:
    counts = [("human", f"{number}.txt", "", 1) for number in range(50)]
    card = dataset_card(exported_corpus(counts=counts))
    assert len(re.findall(r"\d+\.txt", card)) == 20
    assert "And 30 sources with fewer records" in card


def test_every_column_is_a_field_of_the_metadata() -> None:
    described = croissant(exported_corpus())
    (records,) = described["recordSet"]
    assert [(field["name"], field["dataType"]) for field in records["field"]] == [
        ("id", "sc:Text"),
        ("source_generation", "sc:Integer"),
        ("weight", "sc:Float"),
    ]
    assert described["license"] == ["CC0-1.0"]
    assert described["distribution"][0]["sha256"] == "0" * 64


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
    list_file(base, "config.json")
    with Artifact(attempt / "adapter", {}).draft() as draft:
        described = {"base_model_name_or_path": "../../../generation=0/attempt=1/model"}
        (draft.folder / "adapter_config.json").write_text(json.dumps(described))
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


@pytest.mark.parametrize("text", ["a | b", "a\nb", "ends with \\", "`code", "a \\| b", "<b>"])
def test_any_text_stays_in_its_cell(text: str) -> None:
    tokens = MarkdownIt().enable("table").parse(markdown_table(("left", "right"), [(text, "other")]))
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in cell) for cell in cells]
    assert texts == ["left", "right", " ".join(text.splitlines()), "other"]


def test_an_absent_value_is_a_dash() -> None:
    assert markdown_table(("metric", "value"), [("perplexity", None)]).splitlines()[-1] == "| perplexity | – |"


def test_front_matter_is_yaml_whatever_the_values_hold() -> None:
    metadata = {"pretty_name": 'a: "b" # c', "license_name": "yes, no", "tags": ["é", "- x"]}
    first, content, last = front_matter(metadata).split("---\n")
    assert (first, last) == ("", "")
    assert yaml.safe_load(content) == metadata
