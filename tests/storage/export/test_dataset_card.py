"""The dataset card: content of a corpus, its sources, and how it was made."""

import re
from typing import Any

import pytest
import yaml

from storage.export.dataset_card import ExportedCorpus, dataset_card


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


def test_many_sources_are_cut_and_counted() -> None:
    counts = [("human", f"{number}.txt", "", 1) for number in range(50)]
    card = dataset_card(exported_corpus(counts=counts))
    assert len(re.findall(r"\d+\.txt", card)) == 20
    assert "And 30 sources with fewer records" in card
