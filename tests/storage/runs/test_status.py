import json
import shutil
from pathlib import Path

import pytest

from storage.artifacts.model_files import remove_weights
from storage.runs.failure import clear_failure, record_failure
from storage.runs.run import Run
from storage.runs.status import (
    StageSeconds,
    accepted_attempts,
    artifact_folders,
    attempt_folders,
    attempt_numbers,
    attempt_summaries,
    last_accepted_generation,
    run_state,
    run_status,
    stage_seconds,
    work_seconds,
)


@pytest.fixture
def run(store: Path) -> Run:
    return Run(store, "tiny")


def test_a_finished_run_is_finished_and_has_a_summary_of_each_generation(run: Run) -> None:
    assert run_state(run) == "finished"
    assert last_accepted_generation(run) == 3
    summaries = attempt_summaries(run)
    assert [turn.generation for turn in summaries] == [0, 1, 2, 3]
    assert summaries[0].candidates is None
    assert summaries[0].human_fraction == 1
    assert summaries[3].candidates > summaries[3].survivors > 0
    assert all(
        turn.accepted and turn.has_weights and turn.verdict in ("go", "warn") and turn.perplexity > 1
        for turn in summaries
    )
    assert all(turn.bytes > 1000 and turn.work_seconds > 0 for turn in summaries)


def test_no_second_of_a_generation_counts_twice_and_idle_ones_do_not_count() -> None:
    made = [
        {"started": 10.0, "finished": 30.0, "visible_gpus": 1},
        {"started": 12.0, "finished": 29.0, "visible_gpus": 2},
        {"started": 30.0, "finished": 40.0, "visible_gpus": 0},
        {"started": 100.0, "finished": 101.0, "visible_gpus": 4},
    ]
    assert work_seconds(made) == 31
    assert work_seconds(made, lambda one: one["visible_gpus"]) == 3 + 2 * 17 + 4
    assert work_seconds([]) == 0


def test_the_summary_marks_models_without_weights(run: Run) -> None:
    remove_weights(run.folder / "generation=2/attempt=1/model")
    assert [turn.has_weights for turn in attempt_summaries(run)] == [True, True, False, True]


def test_the_state_names_the_writer_only_while_the_lock_is_held(run: Run) -> None:
    with run.lock():
        assert run_state(run).startswith("being written by process ")
    assert (run.folder / ".lock").read_text().startswith("process ")
    assert run_state(run) == "finished"


def test_an_interrupted_run_names_its_generation(run: Run) -> None:
    lines = (run.folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "journal.jsonl").write_text("".join(lines[:-1]))
    shutil.rmtree(run.folder / "generation=3/attempt=1/verdict")
    assert run_state(run) == "interrupted in generation 3"
    assert attempt_summaries(run)[-1].verdict is None
    shutil.rmtree(run.folder / "generation=3")
    assert run_state(run) == "waits before generation 3"


def test_a_run_that_the_gate_stopped_has_the_reason(run: Run) -> None:
    run.append("stopped", 3, 1, "perplexity 9 is above 8")
    assert run_state(run) == "stopped at generation 3: perplexity 9 is above 8"


def test_a_rejected_attempt_does_not_count(run: Run) -> None:
    shutil.copytree(run.folder / "generation=3/attempt=1", run.folder / "generation=3/attempt=2")
    assert (3, 2) in accepted_attempts(run)
    run.append("rejected", 3, 2, "worse")
    assert (3, 1) in accepted_attempts(run)
    assert [turn.accepted for turn in attempt_summaries(run)] == [True, True, True, True, False]


def test_attempts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path, "long")
    for generation in (10, 2, 1):
        (run.folder / f"generation={generation}/attempt=1").mkdir(parents=True)
    assert [attempt_numbers(folder) for folder in attempt_folders(run)] == [(1, 1), (2, 1), (10, 1)]


def test_drafts_are_no_artifacts(store: Path) -> None:
    before = list(artifact_folders(store))
    draft = store / "runs/tiny/generation=3/attempt=1/.corpus.draft"
    draft.mkdir()
    (draft / "_manifest.json").write_text(json.dumps({}))
    assert list(artifact_folders(store)) == before
    assert before[0].parent.name == "snapshot=1"
    assert not list(artifact_folders(store, ["other"]))


def test_seconds_are_split_into_generating_training_and_measuring() -> None:
    def manifest(started: float, finished: float, **facts: object) -> dict[str, object]:
        return {"started": started, "finished": finished, "facts": facts, "settings": {}}

    manifests = {
        "candidates": manifest(0, 60),
        "decisions": manifest(60, 62),
        "model": manifest(62, 162),
        "eval_samples": manifest(162, 170),
        # Scores are written while the metrics are computed.
        "scores": manifest(173, 174),
        "metrics": manifest(170, 175),
    }
    assert stage_seconds(manifests) == StageSeconds(generate=60, train=100, measure=13)
    assert stage_seconds(manifests).measure_share == pytest.approx(13 / 60)
    manifests["eval_samples"] |= {"settings": {"shared_with_generation": 2}}
    assert stage_seconds(manifests) == StageSeconds(generate=68, train=100, measure=5)
    copied = {"model": manifest(0, 9, copied_from="heirloom run other"), "metrics": manifest(9, 10)}
    assert stage_seconds(copied) == StageSeconds(generate=0, train=0, measure=1)
    assert stage_seconds(copied).measure_share is None


def test_every_kind_of_state_differs(store: Path) -> None:
    run = Run(store, "tiny")
    assert run_status(run).kind == "finished"
    journal = run.folder / "journal.jsonl"
    whole = journal.read_text()
    without_last = "".join(
        line + "\n"
        for line in whole.splitlines()
        if (entry := json.loads(line))["event"] != "accepted" or entry["generation"] < 3
    )
    journal.write_text(without_last)
    assert run_status(run).kind == "interrupted"
    run.append("review_requested", 3, 1, deadline=4e9)
    status = run_status(run)
    assert status.kind == "waiting for review" and status.summary == "waits for the review of generation 3"
    assert status.reason.startswith("answer until 2096-10-0")
    record_failure(run, "No space left on device")
    assert run_state(run) == "failed in generation 3: No space left on device"
    clear_failure(run)
    run.append("reviewed", 3, 1, decision="accept", rejected_ids=[])
    assert run_status(run).kind == "interrupted"
    run.append("stopped", 2, 1, "perplexity 9 is above 8")
    assert run_state(run) == "stopped at generation 2: perplexity 9 is above 8"
    with run.lock():
        assert run_status(run).kind == "running"
