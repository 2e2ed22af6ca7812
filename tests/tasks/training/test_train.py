import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from curation.mixing import MixSettings
from storage.artifacts.artifact import read_manifest, read_table
from storage.runs.run import Attempt, Run
from tasks.backends import NgramTraining, TransformerTraining
from tasks.context import GenerationHistory
from tasks.mix import mix
from tasks.training.train import train
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun


def _weights(folder: Path) -> bytes:
    return (folder / "ngram.json").read_bytes()


def test_a_model_is_published_with_its_loss_curve_and_what_it_saw(start_run: Callable[[str], StartedRun]) -> None:
    manifest = read_manifest(start_run("tiny").model.folder)
    assert set(manifest["files"]) == {"ngram.json", "part-00000.parquet"}
    assert manifest["facts"]["human_token_fraction"] == 1.0
    assert manifest["facts"]["tokens"] > 1000


def test_generation_0_is_made_once_for_all_runs_of_a_store(start_run: Callable[[str], StartedRun]) -> None:
    one, other = start_run("one"), start_run("other")
    assert other.model.fingerprint == one.model.fingerprint
    assert _weights(other.model.folder) == _weights(one.model.folder)
    facts = read_manifest(other.model.folder)["facts"]
    assert "copied_from" in facts
    assert "copied_from" not in read_manifest(one.model.folder)["facts"]
    # The time it took is that of the one training there was.
    assert facts["training_seconds"] == read_manifest(one.model.folder)["facts"]["training_seconds"]


def test_a_model_of_another_seed_or_other_settings_is_not_adopted(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("one")
    for name, changed in (("seed", {"seed": 5}), ("order", {"train": NgramTraining(order=2)})):
        ctx = replace(started.context(0, **changed), attempt=Attempt(Run(started.run.root, name), 0))
        model = train(ctx, started.human, GenerationHistory(), started.corpus)
        assert "copied_from" not in read_manifest(model.folder)["facts"]


def test_an_adopted_model_stays_when_its_twin_goes(start_run: Callable[[str], StartedRun]) -> None:
    one, other = start_run("one"), start_run("other")
    before = _weights(other.model.folder)
    (one.model.folder / "ngram.json").write_text("spoilt")
    assert _weights(other.model.folder) == before


def test_a_later_model_learns_from_its_corpus_and_keeps_the_first_vocabulary(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    curated = publish_candidates(started.attempt(1), human_texts(50, seed=60))
    ctx = started.context(1, mix=MixSettings(policy="anchor"))
    corpus = mix(ctx, started.human, started.history(), curated)
    model = train(ctx, started.human, started.history(), corpus, curated)
    first, later = (json.loads(_weights(folder)) for folder in (started.model.folder, model.folder))
    assert later["vocabulary"] == first["vocabulary"]
    assert later["counts"] != first["counts"]
    rows = read_table(corpus.folder).to_pylist()
    facts = read_manifest(model.folder)["facts"]
    human = sum(row["origin"] == "human" for row in rows) / len(rows)
    assert 0 < facts["human_token_fraction"] < 1
    assert facts["human_token_fraction"] == pytest.approx(human, abs=0.05)
    assert facts["tokens"] > read_manifest(started.model.folder)["facts"]["tokens"]


def test_what_is_finished_is_not_learned_again(start_run: Callable[[str], StartedRun]) -> None:
    started = start_run("tiny")
    written = read_manifest(started.model.folder)["finished"]
    again = train(started.context(0), started.human, GenerationHistory(), started.corpus)
    assert again == started.model
    assert read_manifest(again.folder)["finished"] == written


@pytest.mark.transformer
def test_the_first_transformer_takes_its_own_number_of_steps_and_no_ramp(
    start_run: Callable[[str], StartedRun], tiny: TransformerTraining
) -> None:
    pytest.importorskip("torch", reason="a transformer needs the train extra")
    started = start_run("counted")
    settings = tiny.model_copy(update={"generation_0_max_steps": 3, "max_steps": 5, "human_ratio_schedule": "ramp"})
    first = train(started.context(5, train=settings), started.human, GenerationHistory(), started.corpus)
    history = replace(started, model=first).history()
    later = train(started.context(6, train=settings), started.human, history, started.corpus)
    assert [read_manifest(model.folder)["facts"]["steps"] for model in (first, later)] == [3, 5]
    assert read_manifest(first.folder)["settings"]["train"]["human_ratio_schedule"] == "constant"
    curve = read_table(first.folder).to_pylist()
    assert [row["step"] for row in curve] == [1, 2, 3]
