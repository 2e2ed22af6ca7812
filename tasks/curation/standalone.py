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

from curation.decisions import NOBODY, Decision, Known
from curation.embeddings.base import Vectors
from curation.embeddings.encoders import open_encoder
from curation.filters.pii import mask_pii
from curation.metrics.filter_rates import Tolls, find_heavy_tolls
from curation.pipeline import CurateSettings, decide
from storage.artifacts.artifact import MANIFEST, Artifact, Draft, read_manifest
from storage.artifacts.parquet_io import write_parquet
from storage.artifacts.schemas import DECISIONS
from storage.artifacts.survivors import dropped_ids
from tasks.curation.decision_table import _OF_A_RUN, KEPT, as_decisions
from tasks.curation.filter_rates import count_tolls
from tasks.curation.reference import Against, held_against, read_texts
from tasks.orchestration.progress import stage

_EXAMPLES, _SHOWN = 3, 160
"""Pairs a sieve that the summary shows, and characters of each text."""


def sift(source: str, against: Sequence[str], column: str, folder: Path, settings: CurateSettings) -> dict[str, Any]:
    """Publish `kept.parquet` and `decisions.parquet` in `folder`, or find them finished there; returns the facts.

    The texts of `against` come first: a text of `source` that repeats one of them goes, and they are not in what
    is kept.

    Raises:
        ValueError: a source cannot be read or holds no text, or something else is in the folder.
    """
    if folder.exists() and not (folder / MANIFEST).exists():
        raise ValueError(f"{folder} exists and is not what `heirloom curate` writes; name another folder with --out")
    if Path(source).resolve() in [Path(other).resolve() for other in against]:
        raise ValueError(f"{source} cannot be held against itself; within it, duplicates are found anyway")
    settings = settings.resolved()
    _require(settings, against)
    with contextlib.ExitStack() as reading:
        with stage(folder.name, "read"):
            texts = _read(source, column)
            beside = folder.with_name(f".{folder.name}.against")
            there = (folder / MANIFEST).exists()
            known = reading.enter_context(held_against(against, column, settings, beside, once_more=there))
        made = {
            "source": source,
            "against": list(against),
            "column": column,
            "source_digest": texts.digest,
            "against_digest": known.digest,
        }
        artifact = Artifact(folder, made | {"curate": settings.model_dump(mode="json")})
        if not artifact.finished():
            with artifact.draft() as draft:
                _pass(draft, folder.name, texts, known, settings)
                _conclude(draft, texts, known, settings)
    return read_manifest(folder)["facts"]


@dataclass(frozen=True)
class _Texts:
    """Everything that one side holds: what can be looked at, where it stands, and what cannot be read."""

    known: Known
    places: Sequence[tuple[str, int]]
    unreadable: Sequence[Decision]
    digest: str


def _require(settings: CurateSettings, against: Sequence[str]) -> None:
    """What is not installed or not given is said before an hour of work."""
    for name, needs in _OF_A_RUN.items():
        if name in settings.stages:
            raise ValueError(f"the {name} sieve needs {needs}, which only candidates of a run have")
    needy = [name for name in settings.stages if name in ("contamination", "copying", "importance")]
    if needy and not against:
        raise ValueError(f"the {needy[0]} sieve holds texts against others; name them with --against")
    for _ in decide(NOBODY, NOBODY, NOBODY, NOBODY, settings, settings.stages, lambda some: _embedded(some, settings)):
        pass


def _read(source: str, column: str) -> _Texts:
    content = hashlib.sha256()
    found = list(read_texts([source], column, content))
    texts = [one for one in found if not one.reason]
    unreadable = [Decision(one.id, "read", kept=False, reason=one.reason) for one in found if one.reason]
    known = Known([one.id for one in texts], [one.text for one in texts], [0] * len(texts))
    return _Texts(known, [(one.file, one.place) for one in texts], unreadable, content.hexdigest()[:32])


def _pass(draft: Draft, name: str, texts: _Texts, against: Against, settings: CurateSettings) -> None:
    """One part a sieve, behind the part of what cannot be read; parts that are whole are not made again."""
    if not draft.parts():
        draft.write_part(as_decisions(texts.unreadable))
    done = draft.parts() - 1
    alive = texts.known.without(dropped_ids(draft.read(DECISIONS)).to_pylist()) if done else texts.known
    other, left = against.known, settings.stages[done:]
    sieves = decide(
        alive,
        other,
        other,
        other,
        settings,
        left,
        lambda some: _embedded(some, settings),
        meant=other,
        past=against.past,
    )
    for number, sieve in enumerate(left, done + 1):
        with stage(name, sieve):
            draft.write_part(as_decisions(next(sieves)), number)


def _embedded(some: Known, settings: CurateSettings) -> Vectors:
    return open_encoder(settings.encoder, settings.embedding).encode(some.texts)


def _conclude(draft: Draft, texts: _Texts, against: Against, settings: CurateSettings) -> None:
    """What stays and every decision, in one file each, and the summary."""
    # Which generation a keeper is of says nothing where there is none.
    decisions = draft.read(DECISIONS).drop_columns("keeper_generation")
    gone = set(dropped_ids(decisions).to_pylist())
    rows = [place for place, identity in enumerate(texts.known.ids) if identity not in gone]
    mask = "pii" in settings.stages and settings.pii.action == "mask"
    stays = [texts.known.texts[row] for row in rows]
    told = [mask_pii(text, settings.pii) for text in stays] if mask else stays
    kept = pa.table(
        [
            [texts.known.ids[row] for row in rows],
            told,
            [texts.places[row][0] for row in rows],
            [texts.places[row][1] for row in rows],
        ],
        schema=KEPT,
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
        "dropped": _dropped(decisions, ["read", *settings.stages], len(texts.known.ids)),
        "heavy_tolls": [asdict(toll) for toll in find_heavy_tolls(_tolls(texts, decisions), {})],
        "examples": _examples(decisions, texts, against),
    }


def _dropped(decisions: pa.Table, stages: Sequence[str], readable: int) -> list[dict[str, Any]]:
    """How many each sieve looked at, and how many it dropped for each reason; one line of 0 where it dropped none."""
    counted = decisions.group_by(["stage", "kept", "reason"]).aggregate([([], "count_all")]).to_pylist()
    looked = {name: sum(row["count_all"] for row in counted if row["stage"] == name) for name in stages}
    looked["read"] += readable
    lines = [
        {"stage": row["stage"], "reason": row["reason"], "dropped": row["count_all"], "of": looked[row["stage"]]}
        for row in counted
        if not row["kept"]
    ]
    lost = {line["stage"] for line in lines}
    lines += [
        {"stage": name, "reason": "", "dropped": 0, "of": looked[name]} for name in stages[1:] if name not in lost
    ]
    return sorted(lines, key=lambda line: (stages.index(line["stage"]), -line["dropped"], line["reason"]))


def _tolls(texts: _Texts, decisions: pa.Table) -> Tolls:
    """What each sieve dropped of each file."""
    files = pa.chunked_array([[file for file, _ in texts.places]], pa.string())
    return count_tolls(pa.table({"id": pa.chunked_array([texts.known.ids], pa.string()), "source": files}), decisions)


def _examples(decisions: pa.Table, texts: _Texts, against: Against) -> list[dict[str, Any]]:
    """For each sieve of duplicates, the pairs least alike of those it parted: there a threshold errs first."""
    pairs = decisions.filter(pc.is_valid(decisions["keeper"])).sort_by([("evidence", "ascending"), ("id", "ascending")])
    names = dict.fromkeys(decisions["stage"].to_pylist())
    shown = [pair for name in names for pair in pairs.filter(pc.equal(pairs["stage"], name))[:_EXAMPLES].to_pylist()]
    asked = {pair[key] for pair in shown for key in _SIDES.values()}
    wording = against.wording(asked)
    wording |= {one: text for one, text in zip(texts.known.ids, texts.known.texts, strict=True) if one in asked}
    return [
        {
            "stage": pair["stage"],
            "similarity": pair["evidence"],
            "id": pair["id"],
            "keeper": pair["keeper"],
            **{side: " ".join(wording[pair[key]].split())[:_SHOWN] for side, key in _SIDES.items()},
        }
        for pair in shown
    ]


_SIDES = {"text": "id", "keeper_text": "keeper"}
