import os
import time
from pathlib import Path

import pytest

from storage.artifacts.model_files import ADAPTER_CONFIG, removed_weight_files
from storage.maintenance.gc import find_gc_candidates, find_stale_drafts, forks_of, remove_run
from storage.maintenance.verify import verify
from storage.runs.run import BusyError, Run
from storage.runs.status import run_state


def _places(store: Path, **asked: object) -> list[str]:
    return [str(one.path.relative_to(store)) for one in find_gc_candidates(store, **asked)]  # type: ignore[arg-type]


def _draft(store: Path) -> Path:
    draft = store / "runs/tiny/generation=3/attempt=1/.corpus.draft"
    draft.mkdir()
    (draft / "part-00000.parquet").write_bytes(b"1234")
    return draft


def test_a_tidy_store_has_no_leftovers(store: Path) -> None:
    assert _places(store) == []


def test_a_draft_of_a_dead_run_can_go_and_that_of_a_live_one_not(store: Path) -> None:
    draft = _draft(store)
    with Run(store, "tiny").lock():
        assert _places(store) == []
    (leftover,) = find_stale_drafts(store)
    assert (leftover.path, leftover.bytes) == (draft, 4)
    with Run(store, "tiny").lock(), pytest.raises(BusyError):
        leftover.delete()
    leftover.delete()
    assert not draft.exists()


def test_weights_go_but_of_generation_0_and_of_the_newest(store: Path) -> None:
    assert _places(store, keep_models=2) == ["runs/tiny/generation=1/attempt=1/model"]
    assert _places(store, keep_models=9) == []
    found = find_gc_candidates(store, keep_models=1)
    assert [str(one.path.relative_to(store)) for one in found] == [
        f"runs/tiny/generation={generation}/attempt=1/model" for generation in (1, 2)
    ]
    for one in found:
        one.delete()
        assert removed_weight_files(one.path)
    assert _places(store, keep_models=1) == []
    assert verify(store).errors == ()
    assert run_state(Run(store, "tiny")) == "finished"


def test_what_an_adapter_lies_on_stays_while_the_adapter_does(store: Path) -> None:
    described = store / "runs/tiny/generation=3/attempt=1/model" / ADAPTER_CONFIG
    described.write_text('{"base_model_name_or_path": "../../../generation=1/attempt=1/model"}')
    assert _places(store, keep_models=1) == ["runs/tiny/generation=2/attempt=1/model"]


def test_rejected_attempts_go_only_if_asked(store: Path) -> None:
    run = Run(store, "tiny")
    (run.folder / "generation=3/attempt=2").mkdir()
    run.append("rejected", 3, 2, "worse")
    assert _places(store) == []
    assert _places(store, rejected=True) == ["runs/tiny/generation=3/attempt=2"]


def test_old_logs_and_abandoned_drafts_are_collected_after_a_day(store: Path) -> None:
    log = next((store / "logs").glob("*.log"))
    draft = store / "human/letters/snapshot=2/.human_train.draft"
    draft.mkdir(parents=True)
    assert _places(store) == []
    old = time.time() - 2 * 24 * 3600
    for path in (log, draft):
        os.utime(path, (old, old))
    assert _places(store) == [str(draft.relative_to(store)), str(log.relative_to(store))]


def test_a_run_is_removed_whole_and_not_while_it_is_written(store: Path) -> None:
    run = Run(store, "tiny")
    with run.lock(), pytest.raises(BusyError):
        remove_run(run)
    assert verify(store).errors == ()
    remove_run(run)
    assert list((store / "runs").iterdir()) == []
    with pytest.raises(ValueError, match="There is no run tiny"):
        remove_run(run)


def test_what_a_removal_left_that_was_cut_off_can_go(store: Path) -> None:
    run = Run(store, "tiny")
    run.folder.rename(store / "runs/.removed-tiny")
    assert not run.exists()
    assert _places(store) == ["runs/.removed-tiny"]
    assert forks_of(run) == []
