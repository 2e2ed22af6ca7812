"""Drop rates by filter and source, and the warnings of a generation."""

import logging
from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from curation.dedup.minhash import MinHashSettings
from curation.metrics.filter_rates import FilterRate
from curation.pipeline import CurateSettings
from storage.artifacts.artifact import Artifact, read_manifest
from storage.artifacts.schemas import CANDIDATES
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.context import CuratedCandidates
from tasks.curation.curate import curate
from tasks.curation.filter_rates import count_filter_rates, previous_filter_rates
from tests.conftest import human_texts
from tests.tasks.conftest import StartedRun

_STAGES = CurateSettings(filters=("exact", "minhash"), minhash=MinHashSettings(threshold=0.5))
_TEMPLATE = "Dear sir or madam, I write to you today about the matter of the"


def _candidates(started: StartedRun, generation: int, texts: Sequence[tuple[str, str]]) -> Artifact:
    rows = [
        {
            "id": f"g{generation:03d}-{place:07d}",
            "text": text,
            "source_generation": generation,
            "source": source,
            "text_hash": f"{place}",
        }
        for place, (source, text) in enumerate(texts)
    ]
    candidates = started.attempt(generation).artifact("candidates", {"by": "hand"})
    with candidates.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=CANDIDATES))
    return candidates


def _warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings about drop rates, without other warnings of a busy machine."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "tasks" and " dropped " in record.getMessage()
    ]


def test_every_filter_is_counted_by_source_and_records_without_one_are_left_out() -> None:
    records = pa.table({"id": ["a", "b", "c"], "source": ["x", "x", ""]})
    decided = [
        ("a", "exact", True),
        ("b", "exact", False),
        ("c", "exact", True),
        ("a", "minhash", False),
        ("?", "read", False),
    ]
    decisions = pa.table(dict(zip(("id", "filter", "kept"), map(list, zip(*decided, strict=True)), strict=True)))
    assert count_filter_rates(records, decisions) == {
        ("x", "exact"): FilterRate(1, 2),
        ("", "exact"): FilterRate(0, 1),
        ("x", "minhash"): FilterRate(1, 1),
    }


def test_a_template_in_one_source_alarms_once_and_a_clean_generation_is_silent(
    start_run: Callable[[str], StartedRun], caplog: pytest.LogCaptureFixture
) -> None:
    started = start_run("tiny")
    described = {"description": "", "dataset": "letters", "mix": {"policy": "anchor"}, "train": {"backend": "ngram"}}
    described |= {"generate": {"sampler": "ngram"}, "num_generations": 2, "seed": 0}
    started.run.initialize(described, {*described}, {})
    clean = [("letters" if place % 2 else "wiki", text) for place, text in enumerate(human_texts(120, seed=50))]
    planted = [("letters", f"{_TEMPLATE} case numbered {number}.") for number in range(40)]
    earlier: list[CuratedCandidates] = []
    for generation, texts in enumerate((clean[:60], clean[60:] + planted), 1):
        candidates = _candidates(started, generation, texts)
        ctx = started.context(generation, curate=_STAGES)
        with caplog.at_level(logging.WARNING, "tasks"):
            decisions = curate(ctx, started.human, started.history(*earlier), candidates)
        earlier.append(CuratedCandidates(candidates=candidates, decisions=decisions))
        if generation == 1:
            assert (_warned(caplog), read_manifest(decisions.folder)["facts"]["filter_rate_alerts"]) == ([], [])
    heavy = read_manifest(decisions.folder)["facts"]["filter_rate_alerts"]
    assert {one["source"] for one in heavy} == {"letters"}
    assert "max_shingle_document_frequency" in heavy[-1]["reason"]
    assert _warned(caplog) == [f"tiny · generation 2 · {one['reason']}" for one in heavy]
    asked = open_catalog(started.run.root).sql(QUERIES["filter_rate_alerts"])
    assert [tuple(row) for row in asked.fetchall()] == [("tiny", 2, *one.values()) for one in heavy]
    rows = open_catalog(started.run.root).sql(QUERIES["filter_rates"]).fetchall()
    assert ("tiny", 1, "wiki", "minhash", 0, 30, 0.0) in rows


def test_earlier_generations_count_only_with_the_same_filter_settings(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    candidates = _candidates(started, 1, [("wiki", text) for text in human_texts(20, seed=50)])
    decisions = curate(started.context(1, curate=_STAGES), started.human, started.history(), candidates)
    curated = CuratedCandidates(candidates=candidates, decisions=decisions)
    assert previous_filter_rates(decisions, [curated, curated])["wiki", "exact"] == FilterRate(0, 40)
    other = Artifact(decisions.folder, _STAGES.model_copy(update={"encoder": "hashing"}).model_dump(mode="json"))
    assert previous_filter_rates(other, [curated]) == {}
