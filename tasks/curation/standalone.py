"""The sieves on any corpus, once and without a run: what stays, and a decision for every text and sieve.

Texts have no ids of their own here: a text is called by its file and its place in it, `letters.jsonl#17`.
Each sieve's decisions are a part of the draft, so a killed one goes on behind its last whole sieve.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import EMPTY_RECORDS, Decision, RecordSet
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import load_encoder
from curation.filters.pii import mask_pii
from curation.metrics.filter_rates import FilterRates, find_filter_rate_alerts
from curation.pipeline import CurateSettings, run_filters
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, Draft, read_manifest
from storage.artifacts.parquet_io import write_parquet
from storage.artifacts.schemas import DECISIONS
from storage.artifacts.survivors import dropped_ids
from tasks.curation.decision_table import _OF_A_RUN, KEPT_SCHEMA, as_decisions
from tasks.curation.filter_rates import count_filter_rates
from tasks.curation.reference import ReferenceTexts, load_reference, read_texts
from tasks.orchestration.progress import progress

_EXAMPLES, _SHOWN = 3, 160
"""Pairs a sieve that the summary shows, and characters of each text."""


def curate_corpus(
    source: str, references: Sequence[str], column: str, folder: Path, settings: CurateSettings
) -> dict[str, Any]:
    """Publish `kept.parquet` and `decisions.parquet` in `folder`, or find them finished there; returns the facts.

    The texts of `against` come first: a text of `source` that repeats one of them goes, and they are not in what
    is kept.

    Raises:
        HeirloomError: a source cannot be read or holds no text, or something else is in the folder.
    """
    if folder.exists() and not (folder / MANIFEST).exists():
        raise HeirloomError(f"{folder} exists and is not what `heirloom curate` writes; name another folder with --out")
    if Path(source).resolve() in [Path(other).resolve() for other in references]:
        raise HeirloomError(f"{source} cannot be held against itself; within it, duplicates are found anyway")
    settings = settings.resolve_auto()
    _require(settings, references)
    with contextlib.ExitStack() as reading:
        with progress(folder.name, "read"):
            texts = _read(source, column)
            beside = folder.with_name(f".{folder.name}.against")
            there = (folder / MANIFEST).exists()
            known = reading.enter_context(load_reference(references, column, settings, beside, hash_only=there))
        made = {
            "source": source,
            "against": list(references),
            "column": column,
            "source_digest": texts.digest,
            "against_digest": known.content_hash,
        }
        artifact = Artifact(folder, made | {"curate": settings.model_dump(mode="json")})
        if not artifact.exists():
            with artifact.draft() as draft:
                _pass(draft, folder.name, texts, known, settings)
                _conclude(draft, texts, known, settings)
    return read_manifest(folder)["facts"]


@dataclass(frozen=True)
class _InputTexts:
    """Everything that one side holds: what can be looked at, where it stands, and what cannot be read."""

    known: RecordSet
    places: Sequence[tuple[str, int]]
    unreadable: Sequence[Decision]
    digest: str


def _require(settings: CurateSettings, against: Sequence[str]) -> None:
    """What is not installed or not given is said before an hour of work."""
    for name, needs in _OF_A_RUN.items():
        if name in settings.filters:
            raise HeirloomError(f"the {name} sieve needs {needs}, which only candidates of a run have")
    needy = [name for name in settings.filters if name in ("decontamination", "human_overlap", "importance_resampling")]
    if needy and not against:
        raise HeirloomError(f"the {needy[0]} sieve holds texts against others; name them with --reference")
    for _ in run_filters(
        EMPTY_RECORDS,
        EMPTY_RECORDS,
        EMPTY_RECORDS,
        EMPTY_RECORDS,
        settings,
        settings.filters,
        lambda some: _embedded(some, settings),
    ):
        pass


def _read(source: str, column: str) -> _InputTexts:
    content = hashlib.sha256()
    found = list(read_texts([source], column, content))
    texts = [one for one in found if not one.reason]
    unreadable = [Decision(one.id, "read", kept=False, reason=one.reason) for one in found if one.reason]
    known = RecordSet([one.id for one in texts], [one.text for one in texts], [0] * len(texts))
    return _InputTexts(known, [(one.file, one.row_number) for one in texts], unreadable, content.hexdigest()[:32])


def _pass(draft: Draft, name: str, texts: _InputTexts, against: ReferenceTexts, settings: CurateSettings) -> None:
    """One part a sieve, behind the part of what cannot be read; parts that are whole are not made again."""
    if not draft.num_parts():
        draft.write_part(as_decisions(texts.unreadable))
    done = draft.num_parts() - 1
    records = texts.known.exclude(dropped_ids(draft.read(DECISIONS)).to_pylist()) if done else texts.known
    other, left = against.records, settings.filters[done:]
    sieves = run_filters(
        records,
        other,
        other,
        other,
        settings,
        left,
        lambda some: _embedded(some, settings),
        semantic_reference=other,
        indexes=against.indexes,
    )
    for number, sieve in enumerate(left, done + 1):
        with progress(name, sieve):
            draft.write_part(as_decisions(next(sieves)), number)


def _embedded(some: RecordSet, settings: CurateSettings) -> Vectors:
    return load_encoder(settings.encoder, settings.embedding).encode(some.texts)


def _conclude(draft: Draft, texts: _InputTexts, against: ReferenceTexts, settings: CurateSettings) -> None:
    """What stays and every decision, in one file each, and the summary."""
    # Which generation a keeper is of says nothing where there is none.
    decisions = draft.read(DECISIONS).drop_columns("duplicate_of_generation")
    gone = set(dropped_ids(decisions).to_pylist())
    rows = [place for place, identity in enumerate(texts.known.ids) if identity not in gone]
    mask = "pii" in settings.filters and settings.pii.action == "mask"
    stays = [texts.known.texts[row] for row in rows]
    told = [mask_pii(text, settings.pii) for text in stays] if mask else stays
    kept = pa.table(
        [
            [texts.known.ids[row] for row in rows],
            told,
            [texts.places[row][0] for row in rows],
            [texts.places[row][1] for row in rows],
        ],
        schema=KEPT_SCHEMA,
    )
    write_parquet(kept, draft.folder / "kept.parquet")
    write_parquet(decisions, draft.folder / "decisions.parquet")
    for part in draft.folder.glob("part-*.parquet"):
        part.unlink()
    draft.rows = len(rows)
    draft.facts = {
        "texts": len(texts.known.ids) + len(texts.unreadable),
        "kept": len(rows),
        "masked": sum(before != after for before, after in zip(stays, told, strict=True)),
        "dropped": _dropped(decisions, ["read", *settings.filters], len(texts.known.ids)),
        "filter_rate_alerts": [asdict(toll) for toll in find_filter_rate_alerts(_filter_rates(texts, decisions), {})],
        "examples": _examples(decisions, texts, against),
    }


def _dropped(decisions: pa.Table, stages: Sequence[str], readable: int) -> list[dict[str, Any]]:
    """How many each sieve looked at, and how many it dropped for each reason; one line of 0 where it dropped none."""
    counted = decisions.group_by(["filter", "kept", "reason"]).aggregate([([], "count_all")]).to_pylist()
    looked = {name: sum(row["count_all"] for row in counted if row["filter"] == name) for name in stages}
    looked["read"] += readable
    lines = [
        {"filter": row["filter"], "reason": row["reason"], "dropped": row["count_all"], "of": looked[row["filter"]]}
        for row in counted
        if not row["kept"]
    ]
    lost = {line["filter"] for line in lines}
    lines += [
        {"filter": name, "reason": "", "dropped": 0, "of": looked[name]} for name in stages[1:] if name not in lost
    ]
    return sorted(lines, key=lambda line: (stages.index(line["filter"]), -line["dropped"], line["reason"]))


def _filter_rates(texts: _InputTexts, decisions: pa.Table) -> FilterRates:
    """What each sieve dropped of each file."""
    files = pa.chunked_array([[file for file, _ in texts.places]], pa.string())
    return count_filter_rates(
        pa.table({"id": pa.chunked_array([texts.known.ids], pa.string()), "source": files}), decisions
    )


def _examples(decisions: pa.Table, texts: _InputTexts, against: ReferenceTexts) -> list[dict[str, Any]]:
    """For each sieve of duplicates, the pairs least alike of those it parted: there a threshold errs first."""
    pairs = decisions.filter(pc.is_valid(decisions["duplicate_of"])).sort_by(
        [("score", "ascending"), ("id", "ascending")]
    )
    names = dict.fromkeys(decisions["filter"].to_pylist())
    shown = [pair for name in names for pair in pairs.filter(pc.equal(pairs["filter"], name))[:_EXAMPLES].to_pylist()]
    asked = {pair[key] for pair in shown for key in _SIDES.values()}
    wording = against.lookup(asked)
    wording |= {one: text for one, text in zip(texts.known.ids, texts.known.texts, strict=True) if one in asked}
    return [
        {
            "filter": pair["filter"],
            "similarity": pair["score"],
            "id": pair["id"],
            "duplicate_of": pair["duplicate_of"],
            **{side: " ".join(wording[pair[key]].split())[:_SHOWN] for side, key in _SIDES.items()},
        }
        for pair in shown
    ]


_SIDES = {"text": "id", "duplicate_of_text": "duplicate_of"}
