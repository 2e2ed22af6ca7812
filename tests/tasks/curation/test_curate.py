from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.embeddings.encoders import HashingEncoder
from curation.pipeline import CurateSettings
from storage.artifacts.artifact import Artifact, Draft, read_manifest, read_table
from storage.artifacts.schemas import CANDIDATES, embeddings_schema
from storage.artifacts.survivors import read_survivors
from tasks.backends.registry import Backends
from tasks.curation.curate import curate
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_SETTINGS = CurateSettings(encoder="hashing")
_DUPLICATES = CurateSettings(
    filters=("empty", "exact", "decontamination", "human_overlap", "minhash"), encoder="hashing"
)
_NEW = human_texts(12, seed=50)


def _decided(artifact: Artifact) -> dict[str, list[dict]]:
    """Decisions of each record in the order of the filters: a record's drop is stored first and returned last."""
    found: dict[str, list[dict]] = {}
    for row in sorted(read_table(artifact.folder).to_pylist(), key=lambda row: not row["kept"]):
        found.setdefault(row["id"], []).append(row)
    return found


def _first(artifact: Artifact) -> dict:
    return read_table(artifact.folder).to_pylist()[0]


def test_each_candidate_is_dropped_by_the_filter_that_it_fails(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    human, held = _first(started.human.train), _first(started.human.heldout)
    copied, leaked = human["text"] + " Indeed.", held["text"] + " Indeed."
    near = _NEW[0].replace(" It was", " Then it was")
    candidates = publish_candidates(started.attempt(1), [*_NEW, "?!", f"{_NEW[1]} \n", leaked, copied, near]).candidates
    decisions = curate(started.context(2, curate=_DUPLICATES), started.human, started.history(), candidates)
    last = {identity: rows[-1] for identity, rows in _decided(decisions).items()}
    duplicates = [
        (last[f"g001-{place:07d}"]["filter"], last[f"g001-{place:07d}"]["duplicate_of"]) for place in range(12, 17)
    ]
    assert duplicates == [
        ("empty", None),
        ("exact", "g001-0000001"),
        ("decontamination", held["id"]),
        ("human_overlap", human["id"]),
        ("minhash", "g001-0000000"),
    ]
    assert [row["id"] for row in read_survivors(candidates.folder, decisions.folder).to_pylist()] == [
        f"g001-{place:07d}" for place in range(12)
    ]
    facts = read_manifest(decisions.folder)["facts"]
    assert facts == {"survivors": 12, "dropped": 5, "filter_rate_alerts": []}


def test_a_dropped_record_is_not_passed_to_later_filters(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), [*_NEW, "?!", f"{_NEW[1]} \n"]).candidates
    decisions = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    for rows in _decided(decisions).values():
        assert [row["filter"] for row in rows] == list(_SETTINGS.filters)[: len(rows)]
        assert all(row["kept"] for row in rows[:-1])
        # The last filter may keep it or drop it.
        assert not rows[-1]["kept"] or len(rows) == len(_SETTINGS.filters)
    assert len(_decided(decisions)["g001-0000012"]) == 1
    assert len(_decided(decisions)["g001-0000013"]) == 2


def test_survivors_of_earlier_generations_are_known_and_what_was_dropped_is_not(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    earlier = publish_candidates(started.attempt(1), _NEW[:4], dropped=[2])
    candidates = publish_candidates(started.attempt(2), [_NEW[0], _NEW[2], _NEW[5]]).candidates
    decisions = curate(started.context(3, curate=_DUPLICATES), started.human, started.history(earlier), candidates)
    decided = _decided(decisions)
    repeated = decided["g002-0000000"][-1]
    assert (repeated["filter"], repeated["kept"]) == ("exact", False)
    assert (repeated["duplicate_of"], repeated["duplicate_of_generation"]) == ("g001-0000000", 1)
    assert decided["g002-0000001"][-1]["kept"]
    assert decided["g002-0000002"][-1]["kept"]


def test_without_filters_every_candidate_is_kept(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), ["?!", "?!"]).candidates
    decisions = curate(
        started.context(2, curate=CurateSettings(filters=(), encoder="hashing")),
        started.human,
        started.history(),
        candidates,
    )
    assert read_survivors(candidates.folder, decisions.folder).num_rows == 2
    assert read_manifest(decisions.folder)["facts"] == {"survivors": 2, "dropped": 0, "filter_rate_alerts": []}


def test_what_is_decided_is_not_decided_again(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), _NEW).candidates
    first = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    written = read_manifest(first.folder)["finished"]
    again = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    assert again == first
    assert read_manifest(again.folder)["finished"] == written


def test_a_curation_killed_after_any_filter_resumes_after_it(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(
        started.attempt(1), [*_NEW, "?!", f"{_NEW[1]} \n", _NEW[0].replace(" It was", " Then it was")]
    ).candidates
    whole = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    write = Draft.write_part
    for completed in range(len(_SETTINGS.filters)):
        ctx = started.context(3 + completed, curate=_SETTINGS)
        written: list[str] = []

        def dying(draft: Draft, table: pa.Table, number: int = 0, most: int = completed, log: list = written) -> None:
            name = draft.folder.name
            if name == ".decisions.draft" and number == most:
                raise KeyboardInterrupt
            log.append(name)
            write(draft, table, number)

        with monkeypatch.context() as patched:
            patched.setattr(Draft, "write_part", dying)
            with pytest.raises(KeyboardInterrupt):
                curate(ctx, started.human, started.history(), candidates)
        assert written.count(".decisions.draft") == completed
        assert not (ctx.attempt.folder / "decisions").exists()
        again = curate(ctx, started.human, started.history(), candidates)
        parts = sorted(path.name for path in whole.folder.glob("*.parquet"))
        assert [path.name for path in sorted(again.folder.glob("*.parquet"))] == parts
        for part in parts:
            assert (again.folder / part).read_bytes() == (whole.folder / part).read_bytes()


def test_embeddings_of_records_that_a_semantic_filter_read_are_stored_at_half_precision(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), [*_NEW, "?!", f"{_NEW[1]} \n"]).candidates
    decisions = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    stored = read_table(started.attempt(2).folder / "embeddings")
    assert stored.schema == embeddings_schema(256)
    looked_at = {row["id"] for row in read_table(decisions.folder).to_pylist() if row["filter"] == "semantic"}
    assert set(stored["id"].to_pylist()) == looked_at
    texts = dict(zip(*(read_table(candidates.folder)[name].to_pylist() for name in ("id", "text")), strict=True))
    expected = HashingEncoder().encode([texts[identity] for identity in stored["id"].to_pylist()])
    assert np.allclose(np.array(stored["vector"].to_pylist()), expected, atol=1e-3)
    assert read_manifest(started.attempt(2).folder / "embeddings")["facts"] == {"truncated": 0}


def test_what_was_dropped_is_stored_first(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), [*_NEW, "?!", f"{_NEW[1]} \n"]).candidates
    decisions = curate(started.context(2, curate=_SETTINGS), started.human, started.history(), candidates)
    parts = [pq.read_table(path)["kept"].to_pylist() for path in sorted(decisions.folder.glob("*.parquet"))]
    assert all(kept == sorted(kept) for kept in parts)
    assert any(not all(kept) for kept in parts)


def test_surprise_is_nats_per_token_of_the_stored_log_probability(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    candidates = started.attempt(1).artifact("candidates", {"by": "hand"})
    scores = [(-12.0, 4), (-3.0, 3), (None, 5), (-2.0, 0)]
    rows = [
        {"id": f"g001-{place}", "text": text, "source_generation": 1, "sum_logprob": nats, "completion_tokens": tokens}
        for place, (text, (nats, tokens)) in enumerate(zip(_NEW, scores, strict=False))
    ]
    with candidates.draft() as draft:
        draft.write_part(pa.Table.from_pylist(rows, schema=CANDIDATES))
    settings = CurateSettings.model_validate({"filters": ["perplexity"], "perplexity": {"quantiles": (0.5, 1)}})
    decisions = read_table(
        curate(started.context(2, curate=settings), started.human, started.history(), candidates).folder
    )
    duplicates = {row["id"]: (row["score"], row["kept"]) for row in decisions.to_pylist()}
    assert [duplicates[f"g001-{place}"] for place in range(4)] == [
        (3.0, True),
        (1.0, False),
        (None, True),
        (None, True),
    ]


def test_diversity_without_weight_keeps_the_best_of_each_source(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    candidates = publish_candidates(started.attempt(1), _NEW).candidates
    choice = {"keep_fraction": 0.5, "diversity_weight": 0, "quality": "words", "strata": "source"}
    settings = CurateSettings.model_validate({"filters": ["diversity"], "encoder": "hashing", "diversity": choice})
    decisions = curate(started.context(2, curate=settings), started.human, started.history(), candidates)
    words = {row["id"]: len(row["text"].split()) for row in read_table(candidates.folder).to_pylist()}
    kept = [words[row["id"]] for row in read_table(decisions.folder).to_pylist() if row["kept"]]
    gone = [words[row["id"]] for row in read_table(decisions.folder).to_pylist() if not row["kept"]]
    assert len(kept) == len(gone) == 6
    assert min(kept) >= max(gone)
