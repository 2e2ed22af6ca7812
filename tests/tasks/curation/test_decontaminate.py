"""Protected records are excluded from human records and survivors, and every corpus is compared with them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.splitting import EvalSetSettings
from storage.artifacts.artifact import Artifact, ArtifactMissingError, read_manifest, read_table
from tasks.backends import Sampling
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext
from tasks.curation.curate import curate
from tasks.curation.decontaminate import check_contamination, find_excluded_records
from tasks.generation.generate import generate
from tasks.ingestion.eval_sets import add_eval_set
from tasks.ingestion.ingest import load_pinned_human
from tasks.mix import mix
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_SETTINGS = CurateSettings(encoder="hashing")
_UNFILTERED = CurateSettings(encoder="hashing", filters=("exact",))
_NEW = human_texts(8, seed=60)


def _add_eval_set(started: StartedRun, folder: Path, texts: Sequence[str], name: str = "exam") -> None:
    source = folder / f"{name}.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    add_eval_set(started.run.root, "letters", name, [str(source)], EvalSetSettings())


def _pinned(
    started: StartedRun, generation: int, curate: CurateSettings = _SETTINGS, **changed: object
) -> tuple[StageContext, HumanData]:
    ctx = started.context(generation, curate=curate, **changed)
    return ctx, load_pinned_human(ctx.attempt, "letters")


def _rows(artifact: Artifact) -> list[dict]:
    return read_table(artifact.folder).to_pylist()


def test_an_attempt_protects_the_eval_sets_that_existed_when_it_began(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    started = start_run("tiny")
    _pinned(started, 1)
    _add_eval_set(started, tmp_path, _NEW)
    assert list(_pinned(started, 1)[1].protected) == ["human_heldout"]
    ctx, human = _pinned(started, 2)
    assert list(human.protected) == ["human_heldout", "exam"]
    assert list(human.eval_sets) == ["exam"]
    assert human.protected["human_heldout"].exists()
    assert human.protected["human_heldout"].fingerprint == started.human.heldout.fingerprint
    excluded_records = find_excluded_records(ctx, human, started.history())
    assert set(excluded_records.parents) == {"human_train", "human_heldout", "eval_set_exam"}


def test_a_set_that_was_lost_is_an_error_and_not_an_empty_one(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    started = start_run("tiny")
    _add_eval_set(started, tmp_path, _NEW)
    _pinned(started, 1)
    (started.run.root / "human/letters/eval_sets/exam").rename(tmp_path / "gone")
    with pytest.raises(ArtifactMissingError, match=r"There is no eval set 'exam' of letters\. Eval sets: none yet"):
        _pinned(started, 1)


def test_reserve_records_that_overlap_are_neither_prompted_from_nor_learned_from(
    start_run: Callable[[str], StartedRun], tmp_path: Path
) -> None:
    started = start_run("tiny")
    reserve = _rows(started.human.train)
    exact, near, quoted = (row["text"] for row in reserve[:3])
    padding = " ".join(f"word{number}" for number in range(200))
    _add_eval_set(started, tmp_path, [exact, near + " Indeed so.", f"{padding} {quoted} {padding}", *_NEW])
    sampling = Sampling(sampler="ngram", max_tokens=12)
    ctx, human = _pinned(started, 1, generate=sampling, prompts=PromptSettings(template_name="prefix"), seed=1)
    excluded_records = find_excluded_records(ctx, human, started.history())
    gone = {row["id"] for row in reserve[:3]}
    assert {row["id"] for row in _rows(excluded_records)} == gone
    assert [row["reason"] for row in _rows(excluded_records)].count("quotes a protected record") == 1
    exam = {row["id"] for row in _rows(human.protected["exam"])}
    assert all(row["duplicate_of"] in exam and not row["kept"] for row in _rows(excluded_records))
    assert read_manifest(excluded_records.folder)["facts"] == {"screened": len(reserve), "excluded_records": 3}

    candidates = generate(ctx, human, started.history(), started.model, excluded_records)
    stays = [row["id"] for row in reserve if row["id"] not in gone]
    assert sorted(row["parents"][0] for row in _rows(candidates)) == sorted(stays)
    corpus = mix(ctx, human, started.history(), None, excluded_records)
    assert [row["id"] for row in _rows(corpus)] == stays
    assert all(row["num_overlapping"] == 0 for row in _rows(check_contamination(ctx, human, corpus)))


def test_a_reserve_that_overlaps_as_a_whole_is_an_error(start_run: Callable[[str], StartedRun], tmp_path: Path) -> None:
    started = start_run("tiny")
    _add_eval_set(started, tmp_path, [row["text"] for row in _rows(started.human.train)])
    ctx, human = _pinned(started, 1)
    with pytest.raises(ValueError, match="every human training record overlaps a protected record"):
        find_excluded_records(ctx, human, started.history())
    assert not (ctx.attempt.folder / "excluded_records").exists()


def test_candidates_that_overlap_an_eval_set_are_dropped_and_name_its_record(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    started = start_run("tiny")
    _add_eval_set(started, tmp_path, _NEW[:2])
    candidates = publish_candidates(
        started.attempt(1), [_NEW[0], _NEW[5], f"{_NEW[1]} {' '.join(human_texts(9, seed=61))}"]
    ).candidates
    ctx, human = _pinned(started, 2)
    decisions = curate(ctx, human, started.history(), candidates)
    exam = {row["text"]: row["id"] for row in _rows(human.protected["exam"])}
    dropped = {
        row["id"]: (row["filter"], row["duplicate_of"])
        for row in _rows(decisions)
        if row["filter"] == "decontamination"
    }
    assert dropped["g001-0000000"] == ("decontamination", exam[_NEW[0]])
    assert dropped["g001-0000001"] == ("decontamination", None)
    assert dropped["g001-0000002"] == ("decontamination", exam[_NEW[1]])
    assert set(decisions.parents) >= {"human_heldout", "eval_set_exam"}


def test_survivors_of_before_a_set_was_there_are_kept_out_of_later_corpora(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    started = start_run("tiny")
    curated = publish_candidates(started.attempt(1), _NEW[:4])
    _add_eval_set(started, tmp_path, [_NEW[2]])
    ctx, human = _pinned(started, 2, mix=MixSettings(policy="accumulate"))
    excluded_records = find_excluded_records(ctx, human, started.history(curated))
    assert [row["id"] for row in _rows(excluded_records)] == ["g001-0000002"]
    corpus = mix(ctx, human, started.history(), curated, excluded_records)
    texts = [row["text"] for row in _rows(corpus) if row["origin"] == "synthetic"]
    assert texts == [_NEW[0], _NEW[1], _NEW[3]]


def test_survivors_already_filtered_against_every_set_are_not_compared_again(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    started = start_run("tiny")
    _add_eval_set(started, tmp_path, [_NEW[2]])
    ctx, human = _pinned(started, 1)
    candidates = publish_candidates(started.attempt(5), _NEW).candidates
    decisions = curate(ctx, human, started.history(), candidates)
    curated = CuratedCandidates(candidates=candidates, decisions=decisions)
    ctx, human = _pinned(started, 2)
    excluded_records = find_excluded_records(ctx, human, started.history(curated))
    assert set(excluded_records.parents) == {"human_train", "human_heldout", "eval_set_exam"}


def test_the_report_shows_the_overlaps_of_a_loop_without_decontamination(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, tmp_path: Path
) -> None:
    started = start_run("tiny")
    _add_eval_set(started, tmp_path, _NEW[:2])
    held = _rows(started.human.heldout)[0]
    curated = publish_candidates(started.attempt(1), [_NEW[0], _NEW[1], _NEW[5], held["text"] + " Indeed."])
    ctx, human_data = _pinned(started, 2, _UNFILTERED, mix=MixSettings(policy="replace"))
    excluded_records = find_excluded_records(ctx, human_data, started.history(curated))
    corpus = mix(ctx, human_data, started.history(), curated, excluded_records)
    proof = check_contamination(ctx, human_data, corpus)
    rows = {(row["eval_set"], row["origin"]): row for row in _rows(proof)}
    assert set(rows) == {(name, origin) for name in ("human_heldout", "exam") for origin in ("human", "synthetic")}
    human, exam, heldout = rows["exam", "human"], rows["exam", "synthetic"], rows["human_heldout", "synthetic"]
    assert (human["num_compared"], human["num_overlapping"], human["max_jaccard"], human["id"]) == (0, 0, 0.0, None)
    assert (exam["num_compared"], exam["num_overlapping"], exam["max_jaccard"]) == (4, 2, 1.0)
    assert exam["shared_run_words"] >= 13
    assert (heldout["num_compared"], heldout["num_overlapping"]) == (4, 1)
    assert (heldout["id"], heldout["duplicate_of"]) == ("g001-0000003", held["id"])
    assert read_manifest(proof.folder)["facts"] == {"contaminated": 3}


def test_what_is_screened_and_proven_is_not_done_again(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    ctx, human = _pinned(started, 0)
    made = [
        (find_excluded_records(ctx, human, GenerationHistory()), check_contamination(ctx, human, started.corpus))
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert [read_manifest(one.folder)["name"] for one in made[0]] == ["excluded_records", "contamination_report"]
