"""What an exported corpus is, in words for people: a data card."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage.artifacts.provenance import commit, versions

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_LICENSES = {
    *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "unlicense", "odc-by", "cc0-1.0"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
}
_MOST_SOURCES = 20


@dataclass(frozen=True)
class ExportedCorpus:
    """What is known of an exported corpus, for its card."""

    name: str
    run: str
    generation: int
    recipe: dict[str, Any]
    file: str
    bytes: int
    sha256: str
    columns: list[tuple[str, str]]
    """Name and Arrow type."""
    counts: list[tuple[str, str, str, int]]
    """Origin, source, license, records."""
    facts: dict[str, Any]
    """The row of `generations`."""
    metrics: list[tuple[str, str, float]]
    """Subject, metric, value."""
    lineage: list[tuple[str, str, str, str]]
    """Artifact, fingerprint, parent, fingerprint of the parent."""

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(count for *_, count in self.counts)

    @property
    def licenses(self) -> list[str]:
        """Every license that a human record names."""
        return sorted({license for origin, _, license, _ in self.counts if origin == "human" and license})

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"{self.run}, generation {self.generation}"

    @property
    def summary(self) -> str:
        """What it is, in one sentence."""
        return (
            f"{self.records:,} records that a model of generation {self.generation} of the run `{self.run}` learned from: "
            "preserved human text and what models wrote, deduplicated and mixed by Heirloom."
        )


def dataset_card(corpus: ExportedCorpus) -> str:
    """README.md with the front matter that a dataset hub reads."""
    return "\n".join([*_front_matter(corpus), "", *_body(corpus)]) + "\n"


def _front_matter(told: ExportedCorpus) -> Iterator[str]:
    size = next((name for limit, name in _SIZES if told.records < limit), "1M<n<10M")
    # JSON is YAML, and quotes whatever needs it.
    yield from ("---", f"pretty_name: {json.dumps(told.title)}")
    yield from hub_license(told.licenses)
    yield from (
        "tags:",
        "- synthetic",
        "- heirloom",
        "task_categories:",
        "- text-generation",
        f"size_categories:\n- {size}",
    )
    yield from (
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {told.file}",
        "---",
    )


def hub_license(names: Sequence[str]) -> list[str]:
    """The license as a hub knows it: one of its own names, or `other` with ours."""
    if not names:
        return ["license: unknown"]
    known = names[0].lower() if len(names) == 1 else ""
    return (
        [f"license: {known}"]
        if known in _HUB_LICENSES
        else ["license: other", f"license_name: {json.dumps(', '.join(names))}"]
    )


def _body(told: ExportedCorpus) -> Iterator[str]:
    human = sum(count for origin, *_, count in told.counts if origin == "human")
    facts, recipe = told.facts, told.recipe
    yield from (f"# {told.title}", "", told.summary, "")
    yield from ("## What is in it", "")
    shares = [("human", human), ("synthetic", told.records - human)]
    yield from markdown_table(
        ("origin", "records", "share"), [(one, f"{n:,}", f"{n / told.records:.2%}") for one, n in shares]
    )
    if facts.get("human_token_fraction") is not None:
        yield from ("", f"Of the tokens its model was trained on, {facts['human_token_fraction']:.2%} were human.")
    yield from ("", "Columns: " + ", ".join(f"`{name}` ({kind})" for name, kind in told.columns) + ".")
    yield from (
        "",
        "`source_generation` is the generation that wrote a record, 0 for a person; `text_hash` is 32 digits of its text's SHA-256.",
        "",
    )
    yield from ("## Where it comes from", "")
    shown = sorted(told.counts, key=lambda row: -row[3])
    rows = [(origin, source or "–", license or "not stated", f"{n:,}") for origin, source, license, n in shown]
    yield from markdown_table(("origin", "source", "license", "records"), rows[:_MOST_SOURCES])
    if rows[_MOST_SOURCES:]:
        yield from (
            "",
            f"And {len(rows) - _MOST_SOURCES} sources with fewer records; `source` and `license` are columns.",
        )
    yield from ("", "Synthetic records name the source of the human record that prompted them, where one did.", "")
    yield from ("## How it was made", "")
    made = [
        ("description", recipe.get("description")),
        ("mixing policy", recipe["mix"]),
        ("sampler", recipe["generate"]),
    ]
    made += [
        ("trainer", recipe["train"]),
        ("sieves", recipe.get("curate", {}).get("filters")),
        ("seed", recipe["seed"]),
    ]
    made += [("candidates", facts["candidates"]), ("survivors", facts["survivors"]), ("snapshot", facts["snapshot"])]
    yield from markdown_table(
        ("what", "value"), [(name, format_value(value)) for name, value in made if value not in (None, "")]
    )
    yield from ("", "## What was measured on it and on its model", "")
    yield from markdown_table(
        ("subject", "metric", "value"),
        [(one, metric, "–" if value is None else f"{value:.4g}") for one, metric, value in told.metrics],
    )
    yield from ("", "## Lineage", "")
    yield from markdown_table(("artifact", "fingerprint", "made from", "fingerprint"), told.lineage)
    yield from ("", f"Heirloom {versions().get('heirloom', '')}, commit {commit() or 'unknown'}.")


def format_value(value: Any) -> str:  # noqa: ANN401  (JSON values)
    """A value of a recipe in words."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {format_value(inner)}" for key, inner in value.items() if inner is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table, with what would end a cell escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines]
