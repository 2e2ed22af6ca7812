"""Dataset card of an exported corpus: README.md with the front matter that the Hugging Face Hub reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.export.markdown import format_number, format_value, hub_license, render_card

_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Upper bounds and names of the hub's size categories."""

_MAX_SOURCES = 20
"""Rows in the table of sources."""


@dataclass(frozen=True, kw_only=True)
class ExportedCorpus:
    """Everything that the dataset card and the Croissant metadata state about a corpus."""

    name: str
    run: str
    generation: int
    recipe: Mapping[str, Any]
    file: str
    bytes: int
    sha256: str
    columns: list[tuple[str, str]]
    """Name and Arrow type."""
    counts: list[tuple[str, str, str, int]]
    """Origin, source, license, records."""
    facts: Mapping[str, Any]
    """The row of the view `generations`."""
    metrics: list[tuple[str, str, float | None]]
    """Subject, metric, value."""
    lineage: list[tuple[str, str, str, str]]
    """Artifact, fingerprint, parent, fingerprint of the parent."""

    @property
    def records(self) -> int:
        """Number of records."""
        return sum(count for *_, count in self.counts)

    @property
    def licenses(self) -> list[str]:
        """Every license of a human record, sorted."""
        return sorted({license for origin, _, license, _ in self.counts if origin == "human" and license})

    @property
    def title(self) -> str:
        """Title of the card."""
        return f"{self.run}, generation {self.generation}"

    @property
    def summary(self) -> str:
        """One-sentence description."""
        return (
            f"{self.records:,} records that a model of generation {self.generation} of the run {self.run} was "
            f"trained on: human and synthetic text, deduplicated and mixed by Heirloom."
        )


def dataset_card(corpus: ExportedCorpus) -> str:
    """Return the content of README.md."""
    num_human = sum(count for origin, *_, count in corpus.counts if origin == "human")
    shares = [
        (origin, f"{count:,}", f"{count / corpus.records:.2%}")
        for origin, count in (("human", num_human), ("synthetic", corpus.records - num_human))
    ]
    sources = [
        (origin, source or None, license or "not stated", f"{count:,}")
        for origin, source, license, count in sorted(corpus.counts, key=lambda row: -row[3])
    ]
    metrics = [(subject, metric, format_number(value)) for subject, metric, value in corpus.metrics]
    return render_card(
        "dataset_card.md.j2",
        _metadata(corpus),
        {
            "corpus": corpus,
            "facts": {"human_token_fraction": None, **corpus.facts},
            "shares": shares,
            "sources": sources[:_MAX_SOURCES],
            "num_hidden_sources": len(sources[_MAX_SOURCES:]),
            "settings": _settings(corpus),
            "metrics": metrics,
        },
    )


def _metadata(corpus: ExportedCorpus) -> dict[str, object]:
    size = next((name for limit, name in _SIZE_CATEGORIES if corpus.records < limit), "1M<n<10M")
    return {
        "pretty_name": corpus.title,
        **hub_license(corpus.licenses),
        "tags": ["synthetic", "heirloom"],
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": corpus.file}]}],
    }


def _settings(corpus: ExportedCorpus) -> list[tuple[str, str]]:
    recipe, facts = corpus.recipe, corpus.facts
    settings = {
        "description": recipe.get("description"),
        "mixing policy": recipe["mix"],
        "sampler": recipe["generate"],
        "trainer": recipe["train"],
        "filters": recipe.get("curate", {}).get("filters"),
        "seed": recipe["seed"],
        "candidates": facts["candidates"],
        "survivors": facts["survivors"],
        "snapshot": facts["snapshot"],
    }
    return [(name, format_value(value)) for name, value in settings.items() if value not in (None, "")]
