import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.backends import Completion, Prompt, Resources, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.workers.process import Worker, WorkerError
from tests.conftest import human_texts
from tests.support.progress import ignore_progress
from tests.tasks.conftest import Trained

# Looked for, not imported: importing vLLM changes the environment of the process that does it.
pytestmark = [
    pytest.mark.transformer,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "vllm")), reason="needs the train extra and vLLM"
    ),
]

_PROMPTS = [
    Prompt(text, 100 + place) for place, text in enumerate(["", "The old", "It was the year", "", "Zebra "] * 8)
]


def _sampling(**settings: Any) -> Sampling:
    return Sampling.model_validate({"sampler": "vllm", "max_tokens": 16, **settings})


def _complete(backends: Backends, model: Path, prompts: list[Prompt] = _PROMPTS, **settings: Any) -> list[Completion]:
    return list(backends.sampler(_sampling(**settings)).sample(model, prompts, ignore_progress))


def _copied(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    return folder


@pytest.fixture(scope="module")
def fresh(resources: Resources, second: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[Completion]:
    """Completions of the second model by a process that has never loaded another."""
    worker = Worker("vllm_engine", tmp_path_factory.mktemp("fresh") / "vllm.log", 1)
    batches = list(worker.stream("sample", ignore_progress, _sampling(), resources, second.folder, _PROMPTS))
    worker.close()
    return [one for batch in batches for one in batch]


def test_a_text_does_not_depend_on_batch_order_or_call(backends: Backends, first: Trained) -> None:
    together = _complete(backends, first.folder)
    assert len({one.text for one in together}) > 20
    assert _complete(backends, first.folder) == together
    places = list(range(len(_PROMPTS)))
    random.Random(0).shuffle(places)
    shuffled = _complete(backends, first.folder, [_PROMPTS[place] for place in places])
    assert shuffled == [together[place] for place in places]
    assert _complete(backends, first.folder, _PROMPTS[:3]) == together[:3]


def test_the_same_prompt_with_other_seeds_gives_other_texts(backends: Backends, first: Trained) -> None:
    completions = _complete(backends, first.folder, [Prompt("The old", seed) for seed in range(8)])
    assert len({one.text for one in completions}) > 4


def test_no_prompts_make_no_texts(backends: Backends, first: Trained) -> None:
    assert _complete(backends, first.folder, []) == []


def test_progress_ends_with_all_of_them(backends: Backends, first: Trained) -> None:
    reported: list[tuple[int, int]] = []
    answers = backends.sampler(_sampling()).sample(first.folder, _PROMPTS, lambda *progress: reported.append(progress))
    assert len(list(answers)) == len(_PROMPTS)
    assert reported == sorted(reported)
    assert reported[-1] == (len(_PROMPTS), len(_PROMPTS))


def test_the_likeliest_text_is_the_one_of_transformers(backends: Backends, first: Trained) -> None:
    prompts = [Prompt(" ".join(text.split()[:5]), 0) for text in human_texts(12, seed=21)]
    fast = _complete(backends, first.folder, prompts, top_k=1)
    plain = Sampling(sampler="transformers", max_tokens=16, top_k=1)
    slow = list(backends.sampler(plain).sample(first.folder, prompts, ignore_progress))
    for one, reference in zip(fast, slow, strict=True):
        assert one.text == reference.text
        assert one.prompt_tokens == reference.prompt_tokens
        assert one.completion_tokens == reference.completion_tokens
        assert one.finish_reason == reference.finish_reason
        assert one.sum_logprob == pytest.approx(reference.sum_logprob, abs=1e-3 * one.completion_tokens)


def test_the_log_probability_is_the_one_of_the_scorer(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    settings = tiny.model_copy(update={"max_steps": 40})
    corpus = TrainingCorpus(["yes", "no", "perhaps", "never"] * 20, [])
    job = TrainJob(settings=settings, corpus=corpus, gen0_model=first.folder, folder=tmp_path, seed=0)
    backends.trainer().train(job, ignore_progress)
    completions = _complete(backends, tmp_path, [Prompt("", seed) for seed in range(40)], temperature=0.7)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    # A text has more than one tokenization; only those in the tokenizer's own way compare.
    whole = [
        one
        for one in completions
        if one.finish_reason == "stop" and len(tokenizer(one.text)["input_ids"]) + 1 == one.completion_tokens
    ]
    assert len(whole) > 10
    assert len({one.text for one in whole}) > 2
    scores = backends.scorer(settings).score(tmp_path, [one.text for one in whole], (1.0,), ignore_progress)
    for one, score in zip(whole, scores, strict=True):
        assert score.tokens == one.completion_tokens
        assert one.sum_logprob == pytest.approx(-score.nll[0], abs=1e-3 * score.tokens)


def test_a_model_loaded_into_a_running_engine_gives_the_completions_of_a_new_process(
    backends: Backends, first: Trained, second: Trained, fresh: list[Completion]
) -> None:
    assert json.loads((second.folder / "config.json").read_text())["tie_word_embeddings"] is True
    before = _complete(backends, first.folder)
    assert _complete(backends, second.folder) == fresh
    assert [one.text for one in fresh] != [one.text for one in before]
    assert _complete(backends, first.folder) == before


def test_a_model_whose_probe_differs_is_refused(
    backends: Backends, first: Trained, second: Trained, tmp_path: Path
) -> None:
    tampered = _copied(second.folder, tmp_path / "tampered")
    probe = json.loads((tampered / "probe.json").read_text())
    probe["log_probability"] += 0.002 * len(probe["token_ids"])
    (tampered / "probe.json").write_text(json.dumps(probe))
    before = _complete(backends, first.folder)
    with pytest.raises(
        ValueError, match=r"vLLM does not compute the probabilities of .*tampered: the log-probability of"
    ):
        _complete(backends, tampered)
    assert _complete(backends, first.folder) == before


def test_weights_that_belong_to_another_probe_are_refused(
    backends: Backends, first: Trained, second: Trained, tmp_path: Path
) -> None:
    mixed = _copied(second.folder, tmp_path / "mixed")
    shutil.copy(first.folder / "model.safetensors", mixed)
    with pytest.raises(ValueError, match="vLLM does not compute the probabilities of"):
        _complete(backends, mixed)


def test_a_folder_that_is_no_model_is_refused(backends: Backends, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a model\. Expected a folder with config\.json and weights"):
        _complete(backends, tmp_path)


def test_weights_that_cannot_be_loaded_do_no_harm_to_other_models(
    backends: Backends, first: Trained, second: Trained, tmp_path: Path
) -> None:
    before = _complete(backends, first.folder)
    lost, cut = (_copied(second.folder, tmp_path / name) for name in ("lost", "cut"))
    (lost / "model.safetensors").unlink()
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:5000])
    for broken in (lost, cut):
        with pytest.raises((ValueError, WorkerError)):
            _complete(backends, broken)
    assert _complete(backends, second.folder) != before
    assert _complete(backends, first.folder) == before


def test_a_prompt_longer_than_the_context_is_cut_and_gone_on_with(backends: Backends, first: Trained) -> None:
    long = Prompt(" ".join(human_texts(4, seed=3)), 0)
    (completion,) = _complete(backends, first.folder, [long], top_k=1)
    assert (completion.prompt_tokens, completion.completion_tokens, completion.finish_reason) == (63, 1, "length")
    plain = Sampling(sampler="transformers", max_tokens=16, top_k=1)
    (reference,) = backends.sampler(plain).sample(first.folder, [long], ignore_progress)
    assert completion.text == reference.text
    # What was cut is counted, by every sampler alike.
    assert completion.num_cut_tokens == reference.num_cut_tokens > 0


def test_a_refused_request_is_one_sentence_and_leaves_nothing_queued(
    backends: Backends, resources: Resources, first: Trained, tmp_path: Path
) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)y"}}})
    # A process of its own: the client of a sampler ends a process that refused a call.
    worker = Worker("vllm_engine", tmp_path / "vllm.log", 1)
    try:
        arguments = (resources, first.folder, _PROMPTS)
        with pytest.raises(ValueError, match=r"^vLLM refused a request: .* Change `generate\.json_schema`") as refusal:
            list(worker.stream("sample", ignore_progress, _sampling(json_schema=schema), *arguments))
        assert "\n" not in str(refusal.value)
        batches = list(worker.stream("sample", ignore_progress, _sampling(), *arguments))
    finally:
        worker.close()
    assert [completion for batch in batches for completion in batch] == _complete(backends, first.folder)


def test_a_text_ends_at_the_context(backends: Backends, first: Trained) -> None:
    completions = _complete(backends, first.folder, [Prompt("", seed) for seed in range(6)], max_tokens=500)
    assert max(one.completion_tokens for one in completions) == 63
    assert {one.finish_reason for one in completions if one.completion_tokens == 63} <= {"length", "stop"}


@pytest.mark.parametrize(
    "settings",
    [{"repetition_penalty": 2.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 1.5}, {"stop": ["re", "the"]}],
    ids=["repetition", "presence", "frequency", "stop"],
)
def test_penalties_and_stops_are_those_of_transformers(
    backends: Backends, first: Trained, settings: dict[str, Any]
) -> None:
    prompts = [Prompt(" ".join(text.split()[:5]), 0) for text in human_texts(12, seed=21)]
    settings = {"top_k": 1, "min_tokens": 4, "max_tokens": 16, **settings}
    fast = _complete(backends, first.folder, prompts, **settings)
    plain = Sampling.model_validate({"sampler": "transformers", **settings})
    slow = list(backends.sampler(plain).sample(first.folder, prompts, ignore_progress))
    assert [(one.text, one.finish_reason, one.completion_tokens) for one in fast] == [
        (one.text, one.finish_reason, one.completion_tokens) for one in slow
    ]
    without = _complete(
        backends, first.folder, prompts, **{**settings, **dict.fromkeys(settings.keys() & {"stop"}, ())}
    )
    assert "stop" not in settings or [one.text for one in without] != [one.text for one in fast]


def test_a_search_finds_nothing_less_likely_than_taking_the_likeliest_token_each_time(
    backends: Backends, first: Trained
) -> None:
    prompts = [Prompt(" ".join(text.split()[:3]), 0) for text in human_texts(8, seed=21)] + [Prompt("", 0)]
    # Two tokens far no beam can have lost the likeliest ones.
    greedy = _complete(backends, first.folder, prompts, top_k=1, max_tokens=2)
    found = _complete(backends, first.folder, prompts, beam_width=5, max_tokens=2)
    assert [one.text for one in found] != [one.text for one in greedy]
    for one, plain in zip(found, greedy, strict=True):
        assert one.prompt_tokens == plain.prompt_tokens
        assert one.sum_logprob is not None
        assert plain.sum_logprob is not None
        # Beams are compared by what they are worth a token.
        mean, plain_mean = one.sum_logprob / one.completion_tokens, plain.sum_logprob / plain.completion_tokens
        assert mean >= plain_mean - 1e-4


def test_a_search_finds_the_same_again_and_in_the_order_of_the_prompts(backends: Backends, first: Trained) -> None:
    found = _complete(backends, first.folder, beam_width=5)
    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in _complete(backends, first.folder)]
    assert _complete(backends, first.folder, _PROMPTS[::-1], beam_width=5) == found[::-1]
    assert len({one.text for one in found}) > 2


def test_a_search_ends_at_the_context(backends: Backends, first: Trained) -> None:
    long = Prompt(" ".join(human_texts(4, seed=3)), 0)
    (completion,) = _complete(backends, first.folder, [long], beam_width=3)
    assert (completion.prompt_tokens, completion.completion_tokens) == (63, 1)


def test_a_model_with_another_vocabulary_of_the_same_size_is_spelled_its_own_way(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    corpus = TrainingCorpus([text.upper() for text in human_texts(60)], [])
    backends.trainer().train(TrainJob(settings=tiny, corpus=corpus, folder=tmp_path, seed=1), ignore_progress)
    assert (tmp_path / "config.json").read_text() == (first.folder / "config.json").read_text()
    plain = Sampling(sampler="transformers", max_tokens=16, top_k=1)
    (reference,) = backends.sampler(plain).sample(tmp_path, [Prompt("THE OLD", 0)], ignore_progress)
    _complete(backends, first.folder, _PROMPTS[:1])
    (completion,) = _complete(backends, tmp_path, [Prompt("THE OLD", 0)], top_k=1)
    assert completion.text == reference.text


def test_an_adapter_on_its_base_gives_the_completions_of_transformers(
    backends: Backends, adapter: Path, first: Trained, tmp_path: Path
) -> None:
    likeliest = {"top_k": 1, "max_tokens": 12}
    adapter = _copied(adapter, tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(first.folder / name, adapter / name)
    fast = _complete(backends, adapter, _PROMPTS[:6], **likeliest)
    slow = backends.sampler(Sampling.model_validate({"sampler": "transformers", **likeliest}))
    expected = list(slow.sample(adapter, _PROMPTS[:6], ignore_progress))
    assert [one.text for one in fast] == [one.text for one in expected]
    assert [one.text for one in _complete(backends, first.folder, _PROMPTS[:6], **likeliest)] != [
        one.text for one in fast
    ]
