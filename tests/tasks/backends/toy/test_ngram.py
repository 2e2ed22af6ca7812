import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reproductions.token_editing import EditSettings, edit_tokens, replace_tokens, token_distribution
from tasks.backends import Completion, NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.toy.ngram import TOKEN, load_ngrams, sample, score, train
from tests.conftest import human_texts
from tests.support.progress import ignore_progress


def _learned(folder: Path, texts: list[str], order: int = 3, ancestor: Path | None = None) -> Path:
    folder.mkdir()
    settings, corpus = NgramTraining(order=order), TrainingCorpus(texts, [])
    train(TrainJob(settings=settings, corpus=corpus, gen0_model=ancestor, folder=folder, seed=0), ignore_progress)
    return folder


def _completions(model: Path, count: int, prompt: str = "", **settings: object) -> list[Completion]:
    sampling = Sampling.model_validate({"sampler": "ngram", **settings})
    prompts = [Prompt(prompt, seed) for seed in range(count)]
    return [one for batch in sample(sampling, Resources(), model, prompts, ignore_progress) for one in batch]


def _types(texts: list[str]) -> int:
    return len({token for text in texts for token in TOKEN.findall(text)})


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Two texts, pairs of words: small enough for a hand.

    Alone, of 6 words generated: a and the end twice, " a" and " b" once; a fifth of 4 / 10 for each that there is.
    """
    return _learned(tmp_path / "toy", ["a b", "a a"], order=2)


_A, _ALSO_A, _B, _END, _UNKNOWN = 0.28, 0.18, 0.18, 0.28, 0.08


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_every_distribution_sums_to_one(tmp_path: Path, order: int) -> None:
    loaded = load_ngrams(_learned(tmp_path / "model", human_texts(30), order))
    contexts = [
        (),
        (0,) * (order - 1),
        *[context for context in loaded._counts if len(context) == order - 1][:200],
    ]
    for context in contexts:
        found = loaded.distribution(loaded.seen(context))
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert found[0] == 0
        assert (found[1:] > 0).all()


def test_a_word_alone_has_the_probability_of_witten_and_bell(toy: Path) -> None:
    loaded = load_ngrams(toy)
    assert loaded.vocabulary == ["", "", "", " a", " b", "a"]
    assert loaded.distribution(()).tolist() == pytest.approx([0, _END, _UNKNOWN, _ALSO_A, _B, _A])


def test_the_likelihood_of_a_text_is_the_one_made_by_hand(toy: Path) -> None:
    # After the beginning only a was seen, twice; after a two words, once each; after " b" only the end, once.
    by_hand = math.log((2 + _A) / 3) + math.log((1 + 2 * _B) / 4) + math.log((1 + _END) / 2)
    (found,) = score(toy, ["a b"], (1.0,), ignore_progress)
    assert found.tokens == 3
    assert found.nll == pytest.approx((-by_hand,))


def test_a_word_outside_the_vocabulary_counts_as_the_unknown_one(toy: Path) -> None:
    # Nothing was ever seen after the unknown word, so the end has its probability alone.
    by_hand = math.log(_UNKNOWN / 3) + math.log(_END)
    (found,) = score(toy, ["zebra"], (1.0,), ignore_progress)
    assert found.nll == pytest.approx((-by_hand,))


def test_a_temperature_sharpens_by_its_power_and_sums_to_one_again(toy: Path) -> None:
    loaded = load_ngrams(toy)
    by_hand = 0.0
    for context, token in (((0,), 5), ((5,), 4), ((4,), 1)):
        powers = loaded.distribution(context) ** (1 / 0.7)
        by_hand -= math.log(powers[token] / powers.sum())
    (found,) = score(toy, ["a b"], (1.0, 0.7), ignore_progress)
    assert found.nll[1] == pytest.approx(by_hand)


def test_scores_come_in_the_order_of_texts_and_temperatures(toy: Path) -> None:
    texts = ["a b", "b", "", "a a a"]
    together = score(toy, texts, (2.0, 1.0), ignore_progress)
    alone = [score(toy, [text], (temperature,), ignore_progress)[0] for text in texts for temperature in (2.0, 1.0)]
    assert [nats for one in together for nats in one.nll] == [one.nll[0] for one in alone]
    assert [one.tokens for one in together] == [3, 2, 1, 4]


def test_a_low_temperature_gives_fewer_types_and_likelier_texts(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", human_texts(80))
    plain, narrow = _completions(model, 60), _completions(model, 60, temperature=0.1)
    assert _types([one.text for one in narrow]) < _types([one.text for one in plain]) / 2

    def nats_a_token(completions: list[Completion]) -> float:
        return -sum(one.sum_logprob for one in completions) / sum(one.completion_tokens for one in completions)

    assert nats_a_token(narrow) < nats_a_token(plain)


def test_a_very_low_temperature_equals_greedy_sampling(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", [f"word{number}" for number in range(3000)])
    assert _completions(model, 5, temperature=0.002) == _completions(model, 5, top_k=1)


def test_the_same_seed_gives_the_same_texts(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", human_texts(40))
    assert _completions(model, 20) == _completions(model, 20)
    assert len({one.text for one in _completions(model, 20)}) > 10


def test_a_text_does_not_depend_on_the_rest_of_its_batch(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", human_texts(40))
    prompts = [Prompt("The old", seed) for seed in range(10)]
    sampling = Sampling(sampler="ngram")
    forward = list(sample(sampling, Resources(), model, prompts, ignore_progress))
    backward = list(sample(sampling, Resources(), model, prompts[::-1], ignore_progress))
    assert forward == backward[::-1]


def test_a_prompt_is_gone_on_with(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", ["one two three four"] * 50)
    (completion,) = _completions(model, 1, "one two", top_k=1)
    assert completion.text == " three four"
    assert (completion.finish_reason, completion.prompt_tokens, completion.completion_tokens) == ("stop", 2, 2)


def test_the_log_probability_of_a_sample_is_its_score(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", human_texts(40))
    # Two tokens generated without a space between them are read as one word; such texts are left out.
    finished = [
        one
        for one in _completions(model, 40, temperature=0.8)
        if one.finish_reason == "stop" and len(TOKEN.findall(one.text)) == one.completion_tokens
    ]
    assert len(finished) > 20
    scores = score(model, [one.text for one in finished], (1.0,), ignore_progress)
    assert [one.sum_logprob for one in finished] == pytest.approx([-one.nll[0] for one in scores])


def test_no_text_is_longer_than_asked(tmp_path: Path) -> None:
    completions = _completions(_learned(tmp_path / "model", human_texts(40)), 20, max_tokens=3)
    assert {one.completion_tokens for one in completions} == {3}
    assert {one.finish_reason for one in completions} == {"length"}


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_only_the_likeliest_word_is_left_by_the_narrowest_settings(tmp_path: Path, narrow: dict[str, float]) -> None:
    model = _learned(tmp_path / "model", ["x y z"] * 3 + ["x q"])
    assert {one.text for one in _completions(model, 30, "x", **narrow)} == {" y z"}
    assert len({one.text for one in _completions(model, 30, "x")}) > 1


def test_a_nucleus_keeps_the_word_that_crosses_its_edge(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", ["x y"] * 60 + ["x q"] * 40, order=2)
    distribution = load_ngrams(model).distribution(load_ngrams(model).seen((load_ngrams(model).encode("x")[0],)))
    likeliest = np.sort(distribution)[::-1]
    assert likeliest[0] < 0.7 < likeliest[0] + likeliest[1]
    assert {one.text.split()[0] for one in _completions(model, 60, "x", top_p=0.7)} == {"y", "q"}
    assert {one.text.split()[0] for one in _completions(model, 60, "x", top_p=0.5)} == {"y"}


def test_the_unknown_word_is_never_generated(tmp_path: Path) -> None:
    first = _learned(tmp_path / "first", ["a b"])
    model = _learned(tmp_path / "model", ["zebra zebra zebra"] * 50, ancestor=first)
    for one in _completions(model, 50):
        assert set(one.text) <= {"a", " ", "b"}
        # The unknown word has no letters: generated, it would count and not show.
        assert one.text.count("a") + one.text.count("b") == one.completion_tokens


def test_the_vocabulary_of_the_ancestor_stays(tmp_path: Path) -> None:
    first = _learned(tmp_path / "first", human_texts(40))
    later = _learned(tmp_path / "later", ["something else entirely"], ancestor=first)
    assert load_ngrams(later).vocabulary == load_ngrams(first).vocabulary


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The corpus is empty"):
        train(
            TrainJob(settings=NgramTraining(), corpus=TrainingCorpus([], []), folder=tmp_path, seed=0), ignore_progress
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not an n-gram model\. Expected ngram\.json in it"):
        score(tmp_path, ["a"], (1.0,), ignore_progress)


def test_a_training_result_counts_human_tokens_separately(tmp_path: Path) -> None:
    # Every text ends with a token of its own.
    corpus = TrainingCorpus(["a b c", "a b"], ["a b c d e f"])
    result = train(TrainJob(settings=NgramTraining(), corpus=corpus, folder=tmp_path, seed=0), ignore_progress)
    assert (result.tokens, result.human_tokens, result.steps) == (14, 7, 3)


def test_tokens_spell_any_text(tmp_path: Path) -> None:
    for text in ("a  b\n\nc", "“don't”—stop!", "日本語 テスト", "\t tab", "x_1 = {'a': 2}"):
        assert "".join(TOKEN.findall(text)) == text


def test_a_model_trained_only_on_itself_generates_ever_fewer_types(tmp_path: Path) -> None:
    texts = human_texts(120)
    model = first = _learned(tmp_path / "0", texts)
    types = [_types([one.text for one in _completions(model, 120)])]
    for generation in range(1, 5):
        texts = [one.text for one in _completions(model, 120)]
        model = _learned(tmp_path / str(generation), texts, ancestor=first)
        types.append(_types([one.text for one in _completions(model, 120)]))
    assert types[-1] < 0.8 * types[0]


def test_what_a_model_expects_is_its_own_distribution(toy: Path) -> None:
    expected = token_distribution(toy, "a b", 2)
    tokens, probabilities = expected.tokens, expected.probabilities
    likeliest, beside = expected.top_k_ids, expected.top_k_probabilities
    loaded = load_ngrams(toy)
    assert [loaded.vocabulary[token] for token in tokens] == ["a", " b"]
    begin, after = (
        loaded.distribution(loaded.seen((0,))),
        loaded.distribution(loaded.seen((int(tokens[0]),))),
    )
    assert probabilities.tolist() == [begin[tokens[0]], after[tokens[1]]]
    assert likeliest[0, 0] == tokens[0]
    assert (np.diff(beside, axis=1) <= 0).all()
    # Neither an end nor an unknown word can be written in place of a word.
    assert (likeliest > 2).all()


def test_a_text_whose_tokens_stay_is_written_as_it_was(toy: Path) -> None:
    text = "a zebra b"
    tokens = token_distribution(toy, text, 2).tokens
    assert replace_tokens(toy, text, tokens) == text
    assert replace_tokens(toy, text, np.array([tokens[0], tokens[0], tokens[2]])) == "aa b"


def test_an_empty_text_expects_nothing(toy: Path) -> None:
    assert [part.shape for part in vars(token_distribution(toy, "", 2)).values()] == [(0,), (0,), (0, 2), (0, 2)]


def test_token_editing_resamples_confident_tokens_and_adds_types(tmp_path: Path) -> None:
    model = _learned(tmp_path / "model", human_texts(300))
    completions = [one.text for one in _completions(model, 40, temperature=0.3)]
    settings = EditSettings(threshold=0.5)
    edited = []
    for seed, text in enumerate(completions):
        tokens, drawn = edit_tokens(token_distribution(model, text, settings.top_k), settings, seed)
        edited.append(replace_tokens(model, text, tokens))
        if not drawn.any():
            assert edited[-1] == text
    assert edited != completions
    assert _types(edited) >= _types(completions)
