import json
from pathlib import Path

import pytest

from storage.artifacts.artifact import load_artifact
from storage.artifacts.model_files import remove_weights
from storage.maintenance.gc import forks_of, remove_run
from storage.maintenance.verify import verify
from storage.runs.fork import accepted_until, fork, inherited_attempts
from storage.runs.run import Attempt, Run
from storage.runs.status import artifact_folders_of


@pytest.fixture
def source(store: Path) -> Run:
    return Run(store, "tiny")


def test_a_fork_is_complete_valid_and_records_its_origin(source: Run) -> None:
    made = fork(source, 2, "other", {**source.recipe(), "name": "other", "seed": 9})
    assert made.forked_from() == {"run": "tiny", "generation": 2}
    assert [attempt.generation for attempt in inherited_attempts(made)] == [0, 1, 2]
    assert not (made.folder / "generation=3").exists()
    assert made.recipe()["seed"] == 9
    assert made.journal()[-1]["reason"] == "from tiny generation 2"
    assert verify(source.root).errors == ()
    assert forks_of(source) == ["other"]
    assert inherited_attempts(source) == []


def test_a_fork_is_whole_without_its_source(source: Run) -> None:
    made = fork(source, 1, "other", source.recipe())
    remove_run(source)
    assert verify(made.root).errors == ()


def test_inherited_artifacts_keep_their_fingerprints(source: Run) -> None:
    made = fork(source, 1, "other", source.recipe())
    mine, theirs = (
        {folder.name: load_artifact(folder).fingerprint for folder in artifact_folders_of(Attempt(run, 1))}
        for run in (made, source)
    )
    # An index is made again where it is asked for: a fork may compare otherwise.
    assert theirs.keys() - mine.keys() == {"index", "human_train_index"}
    assert mine.items() <= theirs.items()
    assert "embeddings" in mine or "decisions" in mine


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(source: Run) -> None:
    recipe = source.recipe()
    with pytest.raises(ValueError, match="generation 4 is not finished"):
        fork(source, 7, "other", recipe)
    with pytest.raises(ValueError, match="Choose another name"):
        fork(source, 1, "tiny", recipe)
    remove_weights(source.folder / "generation=1/attempt=1/model")
    with pytest.raises(ValueError, match="removed by heirloom gc"):
        fork(source, 1, "other", recipe)
    assert not (source.root / "runs/other").exists()


def test_a_damaged_file_is_not_taken_over_and_a_second_try_goes_on(source: Run) -> None:
    path = source.folder / "generation=1/attempt=1/eval_samples/part-00000.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"X")
    with pytest.raises(ValueError, match="damaged, so the run was not forked"):
        fork(source, 1, "other", source.recipe())
    path.write_bytes(content)
    assert fork(source, 1, "other", source.recipe()).exists()


def test_models_that_lost_their_weights_on_purpose_are_taken_over_as_they_are(source: Run) -> None:
    remove_weights(source.folder / "generation=1/attempt=1/model")
    fork(source, 2, "other", source.recipe())
    assert verify(source.root).without_weights == 2
    assert verify(source.root).errors == ()


def test_beginning_again_keeps_where_a_fork_is_from(source: Run) -> None:
    made = fork(source, 1, "other", source.recipe())
    made.initialize(source.recipe(), set(), {})
    assert made.forked_from() == {"run": "tiny", "generation": 1}
    assert json.loads((made.folder / "run.json").read_text())["site"] == {}
    assert [attempt.number for attempt in accepted_until(made, 1)] == [1, 1]
