"""Samplers and trainers on several worker processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.registry import Backends
from tasks.backends.workers import trainer_client
from tasks.backends.workers.sampler_client import sampler_module, weights_hash
from tests.support.openai_server import answering, echo
from tests.support.progress import ignore_progress

_TEXTS = ["the old river remembers the garden", "the garden forgets the river"] * 150
_PROMPTS = [Prompt("the" if seed % 3 else "", seed) for seed in range(300)]
_COUNTING = Sampling(sampler="ngram", max_tokens=8)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Backends]:
    opened = Backends(Resources(num_train_workers=2), tmp_path / "logs")
    yield opened
    opened.close()


@pytest.fixture
def model(two: Backends, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    job = TrainJob(settings=NgramTraining(), corpus=TrainingCorpus(_TEXTS, []), folder=folder, seed=0)
    two.trainer().train(job, ignore_progress)
    return folder


def test_many_processes_give_the_texts_of_one_in_the_same_order(two: Backends, model: Path) -> None:
    together = list(two.sampler(_COUNTING).sample(model, _PROMPTS, ignore_progress))
    assert [entry.model for entry in two.pool._idle] == [model, model]
    with two.pool.lease("ngram", None):
        alone = list(two.sampler(_COUNTING).sample(model, _PROMPTS, ignore_progress))
    assert together == alone
    assert len(together) == 300


def test_few_prompts_are_not_worth_a_second_process(two: Backends, model: Path) -> None:
    assert len(list(two.sampler(_COUNTING).sample(model, _PROMPTS[:100], ignore_progress))) == 100
    assert sum(worker.module == "ngram" for worker in two.pool.workers) == 1


def test_progress_is_that_of_all_processes(two: Backends, model: Path) -> None:
    reported: list[tuple[int, int]] = []
    assert len(list(two.sampler(_COUNTING).sample(model, _PROMPTS, lambda *progress: reported.append(progress)))) == 300
    assert reported == sorted(reported)
    assert {of for _, of in reported} == {300}
    assert reported[-1][0] > 150


def test_an_abandoned_sampling_ends_its_processes_and_frees_their_slots(two: Backends, model: Path) -> None:
    left = two.sampler(_COUNTING).sample(model, _PROMPTS, ignore_progress)
    next(left)
    left.close()
    assert len(list(two.sampler(_COUNTING).sample(model, _PROMPTS, ignore_progress))) == 300


def test_a_refusal_of_one_leaves_no_stale_answers_in_the_others(two: Backends, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not an n-gram model"):
        list(two.sampler(_COUNTING).sample(tmp_path, _PROMPTS, ignore_progress))
    assert len(list(two.sampler(_COUNTING).sample(model, _PROMPTS, ignore_progress))) == 300


@pytest.mark.processes
def test_a_teacher_generates_instead_of_the_model(tmp_path: Path) -> None:
    with answering() as talk:
        opened = Backends(Resources(server_urls=(talk.address,), num_sample_workers=2), tmp_path / "logs")
        taught = Sampling(sampler="ngram", teacher="tiny")
        texts = list(opened.sampler(taught).sample(tmp_path / "no model", _PROMPTS[1:200], ignore_progress))
        opened.close()
    assert [one.text for one in texts][:2] == [" the seed 1", " the seed 2"]
    assert len(texts) == len(talk.bodies) == 199
    assert sum(worker.module == "server" for worker in opened.pool.workers) == 0


@pytest.mark.processes
def test_a_text_that_breaks_the_schema_is_marked(tmp_path: Path) -> None:
    def half(body: dict[str, object], _: int) -> object:
        text = '{"a": 1}' if body["seed"] == 2 else '{"a": "one"}'
        return echo(body, choices=[{"text": text, "finish_reason": "stop"}])

    with answering(half) as talk:  # type: ignore[arg-type]
        opened = Backends(Resources(server_urls=(talk.address,)), tmp_path / "logs")
        asked = Sampling(sampler="ngram", teacher="tiny", json_schema='{"properties": {"a": {"type": "integer"}}}')
        texts = list(opened.sampler(asked).sample(tmp_path, [Prompt("x", seed) for seed in (1, 2)], ignore_progress))
        opened.close()
    assert [one.finish_reason for one in texts] == ["invalid_json", "stop"]


def test_a_local_teacher_is_recorded_with_its_name_and_the_hash_of_its_weights(two: Backends, model: Path) -> None:
    site = Backends(Resources.model_validate({"local_models": {"wise": str(model)}}), two.logs / "site")
    taught = _COUNTING.model_copy(update={"teacher": "wise"})
    texts = list(site.sampler(taught).sample(model.parent / "no model", _PROMPTS[:20], ignore_progress))
    site.close()
    own = list(two.sampler(_COUNTING).sample(model, _PROMPTS[:20], ignore_progress))
    assert [one.text for one in texts] == [one.text for one in own]
    assert {one.teacher for one in texts} == {f"wise:{weights_hash(model)}"}


@pytest.mark.processes
def test_the_sampler_of_a_folder_follows_from_its_files(model: Path, tmp_path: Path) -> None:
    assert sampler_module(model, Sampling(sampler="transformers")) == "ngram"
    with pytest.raises(ValueError, match=r"is not a model\. Expected a folder with config\.json"):
        sampler_module(tmp_path, _COUNTING)
    (tmp_path / "config.json").write_text("{}")
    assert sampler_module(tmp_path, Sampling(sampler="transformers")) == "transformer"
    assert sampler_module(tmp_path, _COUNTING) in ("vllm_engine", "transformer")


@pytest.mark.processes
def test_the_mark_changes_with_the_weights(model: Path) -> None:
    before = weights_hash(model)
    (model / "ngram.json").write_text("{}")
    assert weights_hash(model) != before


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
