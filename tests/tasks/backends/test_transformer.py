import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="a transformer needs the train extra")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.backends import Completion, Prompt, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.training.data import schedule_human_blocks
from tests.conftest import human_texts
from tests.support.progress import ignore_progress
from tests.tasks.conftest import Trained

torch.set_num_threads(1)
pytestmark = pytest.mark.transformer

_LONG = " ".join(human_texts(4, seed=3))


def _learn(backends: Backends, settings: TransformerTraining, folder: Path, corpus: TrainingCorpus, **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    heldout, ancestor, seed = more.get("heldout", []), more.get("ancestor"), more.get("seed", 1)
    job = TrainJob(settings=settings, corpus=corpus, eval_texts=heldout, gen0_model=ancestor, folder=folder, seed=seed)
    return backends.trainer().train(job, ignore_progress)


def _complete(backends: Backends, model: Path, prompts: list[Prompt], **settings: Any) -> list[Completion]:
    sampling = Sampling.model_validate({"sampler": "transformers", "max_tokens": 12, **settings})
    return list(backends.sampler(sampling).sample(model, prompts, ignore_progress))


def _ids(model: Path, text: str) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]


@torch.inference_mode()
def _nats(model: Path, ids: list[int], temperature: float = 1.0) -> float:
    """The negative log-likelihood of one text, by transformers alone."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    logits = network(input_ids=torch.tensor([ids])).logits[0, :-1] / temperature
    return -sum(float(row.log_softmax(-1)[token]) for row, token in zip(logits, ids[1:], strict=True))


def test_the_folder_opens_with_the_auto_classes(first: Trained) -> None:
    network = AutoModelForCausalLM.from_pretrained(first.folder)
    tokenizer = AutoTokenizer.from_pretrained(first.folder)
    assert type(network).__name__ == "LlamaForCausalLM"
    assert network.config.vocab_size == len(tokenizer) == 400
    (text,) = human_texts(1)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_folder_names_the_plain_llama(first: Trained) -> None:
    shape = json.loads((first.folder / "config.json").read_text())
    assert shape["architectures"] == ["LlamaForCausalLM"]
    assert shape["tie_word_embeddings"] is True


def test_the_folder_holds_a_model_and_nothing_on_the_way_to_it(first: Trained) -> None:
    assert {path.name for path in first.folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "probe.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_probe_is_the_log_probability_of_the_stored_model(first: Trained) -> None:
    probe = json.loads((first.folder / "probe.json").read_text())
    assert len(probe["token_ids"]) > 20
    assert probe["log_probability"] == pytest.approx(-_nats(first.folder, probe["token_ids"]), abs=1e-3)


def test_a_trained_model_knows_its_texts_better_than_noise(backends: Backends, first: Trained) -> None:
    known, noise = backends.scorer(TransformerTraining()).score(
        first.folder, [first.corpus.human[0], "qZ#9 " * 30], (1.0,), ignore_progress
    )
    uniform = math.log(400)
    assert known.nll[0] / known.tokens < uniform < noise.nll[0] / noise.tokens + 1
    assert known.nll[0] / known.tokens < noise.nll[0] / noise.tokens


def test_the_same_seed_makes_the_same_bytes(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    weights = (first.folder / "model.safetensors").read_bytes()
    for name, seed in (("same", 1), ("other", 3)):
        _learn(backends, tiny, tmp_path / name, first.corpus, seed=seed)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != weights


def test_a_descendant_keeps_the_vocabulary_and_the_shape(first: Trained, second: Trained) -> None:
    for name in ("tokenizer.json", "config.json"):
        assert (second.folder / name).read_text() == (first.folder / name).read_text()
    assert (second.folder / "model.safetensors").read_bytes() != (first.folder / "model.safetensors").read_bytes()


def test_scores_equal_a_direct_computation(backends: Backends, first: Trained) -> None:
    texts = ["The old river.", human_texts(1, seed=8)[0], "", "日本", *human_texts(3, seed=7)]
    scores = backends.scorer(TransformerTraining()).score(first.folder, texts, (1.0, 0.7, 2.0), ignore_progress)
    for text, found in zip(texts, scores, strict=True):
        ids = _ids(first.folder, text)[:64]
        assert found.tokens == len(ids) - 1
        expected = [_nats(first.folder, ids, temperature) for temperature in (1.0, 0.7, 2.0)]
        assert found.nll == pytest.approx(expected, abs=1e-3)


def test_a_text_longer_than_the_context_is_scored_up_to_it(backends: Backends, first: Trained) -> None:
    (found,) = backends.scorer(TransformerTraining()).score(first.folder, [_LONG], (1.0,), ignore_progress)
    assert found.tokens == 63
    assert found.nll[0] == pytest.approx(_nats(first.folder, _ids(first.folder, _LONG)[:64]), abs=1e-3)


def test_more_texts_than_a_batch_are_scored_in_their_order(backends: Backends, first: Trained) -> None:
    scorer = backends.scorer(TransformerTraining())
    texts = human_texts(40, seed=4)
    reported: list[tuple[int, int]] = []
    together = scorer.score(first.folder, texts, (1.0,), lambda *progress: reported.append(progress))
    alone = [scorer.score(first.folder, [texts[place]], (1.0,), ignore_progress)[0] for place in (0, 17, 39)]
    assert [together[place].nll[0] for place in (0, 17, 39)] == pytest.approx([one.nll[0] for one in alone], abs=1e-3)
    assert reported == [(32, 40), (40, 40)]


def test_a_text_depends_on_its_seed_alone(backends: Backends, first: Trained) -> None:
    prompts = [Prompt(text, seed) for seed, text in enumerate(["", "The old", "It was", "", "", "The year"])]
    completions = _complete(backends, first.folder, prompts)
    assert _complete(backends, first.folder, prompts) == completions
    assert _complete(backends, first.folder, prompts[::-1]) == completions[::-1]
    assert completions[0].text != completions[3].text


def test_the_narrowest_settings_say_the_likeliest_token(backends: Backends, first: Trained) -> None:
    ids = _ids(first.folder, "The old")[:-1]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(first.folder)(input_ids=torch.tensor([ids])).logits[0, -1]
    expected = AutoTokenizer.from_pretrained(first.folder).decode([int(logits.argmax())])
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}):
        completions = _complete(
            backends, first.folder, [Prompt("The old", seed) for seed in range(3)], max_tokens=1, **narrow
        )
        assert {one.text for one in completions} == {expected}
        assert completions[0].sum_logprob == pytest.approx(float(logits.log_softmax(-1).max()), abs=1e-3)


def test_a_prompt_longer_than_the_context_is_cut_and_gone_on_with(backends: Backends, first: Trained) -> None:
    (completion,) = _complete(backends, first.folder, [Prompt(_LONG, 0)])
    assert (completion.prompt_tokens, completion.completion_tokens, completion.finish_reason) == (63, 1, "length")


def test_human_tokens_are_reported_as_the_plan_has_them(second: Trained, tiny: TransformerTraining) -> None:
    tokens = [
        sum(len(_ids(second.folder, text)) for text in texts)
        for texts in (second.corpus.human, second.corpus.synthetic)
    ]
    plan = schedule_human_blocks("constant", *tokens, tiny.max_steps * tiny.batch_size)
    assert second.result.steps == 8
    assert second.result.tokens == 8 * 4 * 64
    assert second.result.human_tokens == sum(plan) * 64
    share = second.result.human_tokens / second.result.tokens
    assert abs(share - tokens[0] / sum(tokens)) <= 1 / len(plan)


def test_a_model_of_human_text_alone_reports_no_other(first: Trained) -> None:
    assert first.result.human_tokens == first.result.tokens == 8 * 4 * 64


def test_the_loss_curve_has_its_steps_and_falls(first: Trained) -> None:
    steps, losses, rates, speeds, heldout = zip(*first.result.log, strict=True)
    assert max(rates) <= TransformerTraining().learning_rate
    assert min(speeds) > 0
    assert steps == tuple(range(1, 9))
    assert losses[-1] < losses[0]
    assert set(heldout) == {None}


def test_stopping_early_keeps_the_best_model_and_no_checkpoint(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    # Six texts are soon known by heart, and then the held-out ones become less likely.
    settings = tiny.model_copy(update={"generation_0_max_steps": 120, "max_steps": 120, "load_best_model_at_end": True})
    heldout = human_texts(12, seed=11)
    corpus = TrainingCorpus(human_texts(6, seed=12), [])
    result = _learn(backends, settings, tmp_path / "model", corpus, heldout=heldout, ancestor=first.folder)
    curve = [(point.step, point.heldout_loss) for point in result.log if point.heldout_loss is not None]
    best = min(loss for _, loss in curve)
    assert [step for step, _ in curve] == list(range(10, result.steps + 1, 10))
    assert result.steps < 120
    assert curve[-1][1] > best
    assert not (tmp_path / "model" / "checkpoints").exists()
    assert _block_loss(tmp_path / "model", heldout) == pytest.approx(best, abs=1e-3)


@torch.inference_mode()
def _block_loss(model: Path, texts: list[str]) -> float:
    flat = [token for text in texts for token in _ids(model, text)]
    blocks = torch.tensor([flat[start : start + 64] for start in range(0, len(flat) - 63, 64)])
    return float(AutoModelForCausalLM.from_pretrained(model)(input_ids=blocks, labels=blocks).loss)


def test_stopping_early_with_too_little_held_out_text_is_refused(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="held-out text, which is shorter than one block of 64 tokens"):
        _learn(
            backends, tiny.model_copy(update={"load_best_model_at_end": True}), tmp_path, first.corpus, heldout=["a"]
        )


def test_an_empty_corpus_is_refused(backends: Backends, tiny: TransformerTraining, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The corpus is empty"):
        _learn(backends, tiny, tmp_path, TrainingCorpus([], []))


@pytest.mark.parametrize("averaged", [0.0, 0.2])
def test_a_training_that_loses_its_way_is_refused(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path, averaged: float
) -> None:
    wild = tiny.model_copy(
        update={
            "learning_rate": 1e30,
            "embedding_learning_rate": 1e30,
            "weight_averaging_fraction": averaged,
            "max_steps": 40,
        }
    )
    with pytest.raises(ValueError, match="Training diverged"):
        _learn(backends, wild, tmp_path, first.corpus)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_base_without_position_embeddings_is_trained_sampled_and_scored(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    for name in ("base", "model"):
        (tmp_path / name).mkdir()
    shape = BloomConfig(vocab_size=400, hidden_size=32, n_layer=1, n_head=2)
    BloomForCausalLM(shape).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(first.folder).save_pretrained(tmp_path / "base")
    settings = TransformerTraining.model_validate(
        {**tiny.model_dump(), "init_from": "base", "base_model": str(tmp_path / "base")}
    )
    job = TrainJob(
        settings=settings,
        corpus=first.corpus,
        gen0_model=first.folder,
        initial_weights=tmp_path / "base",
        folder=tmp_path / "model",
        seed=1,
    )
    assert backends.trainer().train(job, ignore_progress).steps == 8
    (score,) = backends.scorer(settings).score(tmp_path / "model", ["the old river " * 60], (1.0,), ignore_progress)
    assert score.tokens > 64 and math.isfinite(score.nll[0])
    (completion,) = _complete(backends, tmp_path / "model", [Prompt("", 3)])
    assert 0 < completion.completion_tokens <= 12


def test_progress_is_reported_step_by_step(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    reported: list[tuple[int, int]] = []
    settings = tiny.model_copy(update={"max_steps": 2})
    job = TrainJob(settings=settings, corpus=first.corpus, gen0_model=first.folder, folder=tmp_path, seed=1)
    backends.trainer().train(job, lambda *progress: reported.append(progress))
    assert reported == [(1, 2), (2, 2)]


def test_a_search_finds_the_same_for_one_prompt_as_among_others_and_goes_on_as_long_as_it_must(
    backends: Backends, first: Trained
) -> None:
    prompts = [Prompt(" ".join(text.split()[:words]), 0) for words in (3, 4) for text in human_texts(2, seed=21)]
    asked: dict[str, Any] = {"beam_width": 4, "min_tokens": 12}
    found = _complete(backends, first.folder, prompts, **asked)
    for prompt, one in zip(prompts, found, strict=True):
        (alone,) = _complete(backends, first.folder, [prompt], **asked)
        assert (alone.text, alone.prompt_tokens, alone.completion_tokens) == (one.text, one.prompt_tokens, 12)
        nats = _nats(first.folder, _ids(first.folder, prompt.text)[:-1])
        ids = AutoTokenizer.from_pretrained(first.folder)(prompt.text + one.text)["input_ids"]
        if len(ids) + 1 == one.prompt_tokens + 12:
            both = _nats(first.folder, _ids(first.folder, prompt.text + one.text)[:-1])
            assert one.sum_logprob == pytest.approx(nats - both, abs=1e-3)


def test_beam_search_is_at_least_as_likely_as_greedy_and_applies_the_length_penalty(
    backends: Backends, first: Trained
) -> None:
    prompts = [Prompt(" ".join(text.split()[:3]), 0) for text in human_texts(6, seed=21)]
    greedy = _complete(backends, first.folder, prompts, top_k=1, max_tokens=2)
    found = _complete(backends, first.folder, prompts, beam_width=5, max_tokens=2)
    for one, plain in zip(found, greedy, strict=True):
        assert (one.sum_logprob or 0) / one.completion_tokens >= (
            plain.sum_logprob or 0
        ) / plain.completion_tokens - 1e-4
    long = {"beam_width": 4, "max_tokens": 40, "min_tokens": 40}
    plain_words, penalised = (
        sum(len(set(one.text.split())) for one in _complete(backends, first.folder, prompts, **long, **more))
        for more in ({}, {"repetition_penalty": 2.0})
    )
    assert penalised > plain_words
