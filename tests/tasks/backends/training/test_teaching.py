from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="responses and preferences need the train extra")

from tasks.backends import PreferencePair, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tests.conftest import human_texts
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer

_PROMPTS = [text.split(". ")[0] for text in human_texts(24, seed=21)]
_ADAMW = {"optimizer": "adamw", "learning_rate": 0.003}


def _learn(
    backends: Backends, tiny: TransformerTraining, first: Trained, folder: Path, corpus: TrainingCorpus, **more: Any
) -> Any:
    folder.mkdir()
    settings = TransformerTraining.model_validate({**tiny.model_dump(), "max_steps": 30, "init_from": "base", **more})
    job = TrainJob(
        settings=settings,
        corpus=corpus,
        gen0_model=first.folder,
        initial_weights=first.folder,
        folder=folder,
        seed=5,
    )
    return backends.trainer().train(job, lambda *_: None)


def _nats(backends: Backends, model: Path, texts: list[str]) -> list[float]:
    return [one.nll[0] for one in backends.scorer(TransformerTraining()).score(model, texts, (1.0,), lambda *_: None)]


def test_responses_are_learned_and_their_prompts_are_not(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    corpus = TrainingCorpus([(f"{prompt} zz ", "so it is") for prompt in _PROMPTS], [])
    result = _learn(backends, tiny, first, tmp_path / "sft", corpus, objective="sft", max_steps=80)
    assert result.log[-1].loss < 1 < result.log[0].loss
    asked, answered = f"{_PROMPTS[0]} zz ", f"{_PROMPTS[0]} zz so it is"
    before, after = (_nats(backends, model, [asked, answered]) for model in (first.folder, tmp_path / "sft"))
    # The answer costs far less than it did; the prompt, with an end that was not in the training data, does not.
    assert (after[1] - after[0]) < (before[1] - before[0]) - 5
    assert after[0] > before[0] * 0.5


def test_what_is_preferred_becomes_likelier_than_what_is_not(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    chosen, rejected = human_texts(24, seed=22), human_texts(24, seed=23)
    pairs = [PreferencePair("", good, bad, human=True) for good, bad in zip(chosen, rejected, strict=True)]
    result = _learn(
        backends, tiny, first, tmp_path / "dpo", TrainingCorpus([], [], preferences=pairs), objective="dpo", **_ADAMW
    )
    assert result.log[0].loss == pytest.approx(0.693, abs=0.05)
    assert result.log[-1].loss < 0.5
    assert result.human_tokens == result.tokens

    def margin(model: Path) -> float:
        return sum(_nats(backends, model, rejected)) - sum(_nats(backends, model, chosen))

    assert margin(tmp_path / "dpo") > margin(first.folder) + 10


def test_a_process_learns_on_one_card_of_all_that_it_sees(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    from tasks.backends.training.trainer import force_single_gpu

    for cards, rows in ((4, 8), (1, 8), (0, 8)):
        arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=8, report_to=[], use_cpu=True)
        arguments._n_gpu = cards
        assert force_single_gpu(arguments).train_batch_size == rows


@pytest.mark.parametrize("more", [{"gradient_checkpointing": True}, {"lr_scheduler": "cosine", "warmup_ratio": 0.2}])
def test_what_changes_the_cost_or_the_rate_still_learns(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path, more: dict[str, Any]
) -> None:
    plain = _learn(backends, tiny, first, tmp_path / "plain", first.corpus)
    other = _learn(backends, tiny, first, tmp_path / "other", first.corpus, **more)
    if "lr_scheduler" in more:
        rates = [point.learning_rate for point in other.log]
        assert rates.index(max(rates)) >= 4
        assert rates[-1] < 0.001
    else:
        assert other.log[-1].loss == pytest.approx(plain.log[-1].loss, abs=1e-4)


def test_the_librarys_own_loss_is_the_sliced_one(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    sliced = _learn(backends, tiny, first, tmp_path / "sliced", first.corpus, max_steps=4)
    whole = _learn(backends, tiny, first, tmp_path / "whole", first.corpus, max_steps=4, chunked_cross_entropy=False)
    assert whole.log[-1].loss == pytest.approx(sliced.log[-1].loss, abs=1e-3)
