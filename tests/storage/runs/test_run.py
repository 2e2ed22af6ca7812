import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.artifacts.artifact import Artifact, ArtifactMissingError, DriftError
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Attempt, BusyError, Run, runs
from storage.runs.status import run_state
from tests.support.paths import ROOT

RECIPE = {"name": "tiny", "num_generations": 3, "mix": {"policy": "anchor"}, "seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = Run(tmp_path, "tiny")
    found.initialize(RECIPE, set(), {"store": "here"})
    return found


def _lines(run: Run) -> list[str]:
    return (run.folder / "journal.jsonl").read_text().splitlines()


def _events(run: Run) -> list[tuple[str, int, int]]:
    return [(entry["event"], entry["generation"], entry["attempt"]) for entry in run.journal()]


def test_a_run_remembers_its_recipe_and_its_site(run: Run) -> None:
    assert run.exists()
    assert run.recipe() == RECIPE
    written = json.loads((run.folder / "run.json").read_text())
    assert written["site"] == {"store": "here"}
    assert written["provenance"]["versions"]["python"]


def test_the_same_recipe_may_begin_again_in_another_place(run: Run) -> None:
    run.initialize(RECIPE, set(), {"store": "there"})
    assert json.loads((run.folder / "run.json").read_text())["site"] == {"store": "there"}


def test_another_recipe_is_refused_with_the_field_and_both_values(run: Run) -> None:
    other = {**RECIPE, "mix": {"policy": "replace"}, "seed": 4}
    with pytest.raises(DriftError, match=r'mix\.policy was "anchor", is now "replace"; seed was 0, is now 4'):
        run.initialize(other, {"num_generations"}, {})
    assert run.recipe() == RECIPE


def test_growing_fields_may_change_and_are_remembered(run: Run) -> None:
    longer = {**RECIPE, "num_generations": 9}
    with pytest.raises(DriftError, match="generations was 3, is now 9"):
        run.initialize(longer, set(), {})
    run.initialize(longer, {"num_generations"}, {})
    assert run.recipe()["num_generations"] == 9


def test_a_run_that_never_began_names_those_that_did(run: Run) -> None:
    other = Run(run.root, "other")
    assert not other.exists()
    with pytest.raises(ArtifactMissingError, match=r"no run other .*Runs: tiny"):
        other.recipe()
    with pytest.raises(ArtifactMissingError, match=r"no run tny in .*\. Did you mean `tiny`\? Runs: tiny"):
        Run(run.root, "tny").recipe()
    with pytest.raises(ArtifactMissingError, match="none yet"):
        Run(run.root / "empty", "other").recipe()


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0"])
def test_letters_digits_dots_dashes_and_underscores_name_a_run(name: str, tmp_path: Path) -> None:
    assert Run(tmp_path, name).folder == tmp_path / "runs" / name


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "a'b", 'a"b', ".hidden", "-a", "a\n", "é"])
def test_nothing_else_names_a_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a run"):
        Run(tmp_path, name)


def test_runs_are_found_by_name_once_they_began(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        Run(tmp_path, name).initialize(RECIPE, set(), {})
    (tmp_path / "runs" / "never-begun").mkdir()
    assert [found.name for found in runs(tmp_path)] == ["a", "b", "c"]
    assert runs(tmp_path / "nowhere") == []


def test_the_journal_keeps_what_happened_in_order_and_once(run: Run) -> None:
    assert _events(run) == [("configured", 0, 0)]
    run.append("started", 0, 1, snapshot=2)
    run.append("accepted", 0, 1)
    run.append("accepted", 0, 1, "repeated")
    run.append("rejected", 1, 1, "perplexity rose")
    assert _events(run)[1:] == [("started", 0, 1), ("accepted", 0, 1), ("rejected", 1, 1)]
    assert run.journal()[1]["snapshot"] == 2
    assert [entry["reason"] for entry in run.journal()] == ["", "", "", "perplexity rose"]
    assert len(_lines(run)) == 4


@pytest.mark.parametrize("missing", [1, 10, 60])
def test_a_line_cut_off_by_a_crash_costs_itself_alone(run: Run, missing: int) -> None:
    run.append("started", 0, 1, snapshot=1)
    run.append("accepted", 0, 1)
    path = run.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-missing])
    before = _events(run)
    assert before[1] == ("started", 0, 1)
    run.append("stopped", 5, 1, "enough")
    run.append("accepted", 6, 1)
    assert _events(run) == [*before, ("stopped", 5, 1), ("accepted", 6, 1)]
    assert (("accepted", 0, 1) in before) == (missing == 1)


def test_a_reason_may_hold_any_character(run: Run) -> None:
    reason = "line\nbreak \u2028 and \u0085 and 'quotes' and \"more\" and é"
    run.append("rejected", 1, 1, reason)
    assert run.journal()[-1]["reason"] == reason


@pytest.mark.parametrize(
    "line", ["null", "5", "[1]", "{}", '{"event": "accepted"}', '{"event": 1, "generation": "x"}', "["]
)
def test_a_line_that_is_no_entry_costs_itself_alone(run: Run, line: str) -> None:
    run.append("started", 0, 1, snapshot=1)
    with (run.folder / "journal.jsonl").open("a") as journal:
        journal.write(line + "\n")
    run.append("accepted", 0, 1)
    assert _events(run)[1:] == [("started", 0, 1), ("accepted", 0, 1)]
    assert run_state(run) == "waits before generation 1"


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"recipe": 5}', '{"format": "x"}', "[" * 99_999, "{"])
def test_a_recipe_that_cannot_be_read_is_one_sentence(run: Run, content: str) -> None:
    (run.folder / "run.json").write_text(content)
    with pytest.raises(ArtifactMissingError, match=r"Cannot read .*run\.json.*Restore it from a backup"):
        run.recipe()


def test_an_attempt_keeps_the_snapshot_that_was_newest_when_it_began(run: Run) -> None:
    assert run.pin_snapshot(1, 1, lambda: 4) == 4
    assert run.pin_snapshot(1, 1, lambda: 5) == 4
    assert run.pin_snapshot(1, 2, lambda: 5) == 5
    assert run.pin_snapshot(2, 1, lambda: 6) == 6
    assert Run(run.root, run.name).pin_snapshot(1, 1, lambda: 9) == 4


def test_an_attempt_keeps_the_evaluation_sets_that_were_there_when_it_began(run: Run) -> None:
    assert run.pinned_eval_sets(1, 1) == []
    run.pin_snapshot(1, 1, lambda: 4, lambda: ["exam"])
    run.pin_snapshot(1, 1, lambda: 5, lambda: ["exam", "quiz"])
    run.pin_snapshot(2, 1, lambda: 5, lambda: ["exam", "quiz"])
    run.append("started", 3, 1, snapshot=1)  # as it was written before there were evaluation sets
    assert [run.pinned_eval_sets(generation, 1) for generation in (1, 2, 3)] == [["exam"], ["exam", "quiz"], []]


@pytest.mark.processes
def test_a_second_process_is_refused_with_the_id_of_the_writer(run: Run) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from storage.runs.run import BusyError, Run
try:
    with Run(Path({str(run.root)!r}), "tiny").lock():
        print("locked")
except BusyError as error:
    print("busy:", error)
"""

    def ask() -> str:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    with run.lock():
        assert ask().startswith(f"busy: run tiny is being written by process {os.getpid()} on ")
    assert ask() == "locked\n"


@pytest.mark.processes
def test_the_lock_of_a_process_that_was_killed_is_free(run: Run) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from storage.runs.run import Run
with Run(Path({str(run.root)!r}), "tiny").lock():
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with run.lock():
        pass


def test_a_lock_is_held_by_one_and_freed_by_a_fault(run: Run) -> None:
    with run.lock(), pytest.raises(BusyError, match="is being written by process"), run.lock():
        pass
    with pytest.raises(RuntimeError), run.lock():
        raise RuntimeError
    with run.lock(), Run(run.root, "other").lock():
        pass


def test_the_newest_snapshot_is_the_last_finished_one(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        with Artifact(human_folder(tmp_path, "letters", number) / "human_train", {}).draft():
            pass
    with Artifact(human_folder(tmp_path, "letters", 11) / "human_heldout", {}).draft():
        pass
    assert newest_snapshot(tmp_path, "letters") == 10


def test_a_human_text_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match="Datasets: none yet"):
        newest_snapshot(tmp_path, "letters")
    with Artifact(human_folder(tmp_path, "letters", 1) / "human_train", {}).draft():
        pass
    with pytest.raises(
        ArtifactMissingError, match=r"no dataset 'diaries' .*Datasets: letters\. To add it: heirloom ingest"
    ):
        newest_snapshot(tmp_path, "diaries")


def test_an_attempt_knows_its_place_and_its_name(run: Run) -> None:
    assert Attempt(run, 3, 2).folder == run.folder / "generation=3" / "attempt=2"
    assert str(Attempt(run, 3)) == "tiny · generation 3"
    assert str(Attempt(run, 3, 2)) == "tiny · generation 3, attempt 2"


def test_an_artifact_of_an_attempt_names_its_parents_by_fingerprint(run: Run, tmp_path: Path) -> None:
    reserve = Artifact(tmp_path / "human_train", {"a": 1})
    corpus = Attempt(run, 0).artifact("corpus", {"seed": 1}, human_train=reserve)
    assert corpus.folder == run.folder / "generation=0" / "attempt=1" / "corpus"
    assert corpus.parents == {"human_train": reserve.fingerprint}


def test_who_writes_is_known_while_they_do(run: Run) -> None:
    assert run.lock_holder() == ""
    with run.lock():
        assert run.lock_holder().startswith(f"process {os.getpid()} on ")
    assert run.lock_holder() == ""


def test_asking_who_writes_does_not_keep_a_writer_out(run: Run) -> None:
    import fcntl
    import threading

    with run.lock():
        pass
    with (run.folder / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with run.lock():
            assert run.lock_holder()


def test_a_run_of_a_newer_format_or_a_torn_one_is_refused_and_left_as_it_is(run: Run) -> None:
    path = run.folder / "run.json"
    newer = {**json.loads(path.read_text()), "format": 99}
    for content, sentence in ((json.dumps(newer), "has format 99"), ("{", "Restore it from a backup")):
        path.write_text(content)
        with pytest.raises(ArtifactMissingError, match=sentence):
            run.initialize(RECIPE, set(), {})
        assert path.read_text() == content


def test_hidden_folders_are_no_runs(run: Run) -> None:
    run.folder.rename(run.folder.with_name(".removed-tiny"))
    assert runs(run.root) == []
