"""Scores are the same in one piece and in many. What is learned: the tests of each backend."""

from pathlib import Path

import pytest

from tasks.backends import NgramTraining, TrainingCorpus, TrainJob
from tasks.backends.registry import Backends
from tasks.backends.workers import trainer_client


def test_texts_are_scored_in_pieces_and_their_progress_is_that_of_all(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the river {'and the garden ' * count}" for count in range(120)]
    job = TrainJob(settings=NgramTraining(), corpus=TrainingCorpus(texts, []), folder=tmp_path, seed=0)
    backends.trainer().train(job, lambda *_: None)
    scorer, reported = backends.scorer(NgramTraining()), []
    whole = scorer.score(tmp_path, texts, (1.0, 0.5), lambda *_: None)
    monkeypatch.setattr(trainer_client, "_TEXTS_PER_CALL", 50)
    assert scorer.score(tmp_path, texts, (1.0, 0.5), lambda *progress: reported.append(progress)) == whole
    assert reported == [(0, 120), (50, 120), (100, 120)]
