from collections.abc import Callable
from math import exp, isfinite, log

import pytest

from curation.metrics.settings import METRICS, EvalSettings
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from tasks.backends import NgramTraining, Sampling
from tasks.backends.registry import Backends
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.inputs import EvalInputs
from tests.conftest import human_texts
from tests.tasks.conftest import Beginning, Said

_SETTINGS = EvalSettings(num_samples=15, showcase_prompt="The old")
_SAMPLING = Sampling(sampler="ngram", max_tokens=20)


def _measured(begun: Beginning, backends: Backends, candidates: Artifact | None = None, seed: int = 0) -> Artifact:
    return evaluate(
        begun.attempt(0),
        EvalInputs(begun.model, begun.corpus, begun.reserve, begun.heldout, candidates),
        _SETTINGS,
        NgramTraining(),
        _SAMPLING,
        seed,
        backends,
    )


def _values(metrics: Artifact) -> dict[tuple[str, str], float]:
    return {(row["subject"], row["metric"]): row["value"] for row in read_table(metrics.folder).to_pylist()}


def test_perplexity_is_that_of_the_held_out_texts(begin: Callable[[str], Beginning], backends: Backends) -> None:
    begun = begin("tiny")
    values = _values(_measured(begun, backends))
    texts = read_table(begun.heldout.folder)["text"].to_pylist()
    scores = backends.scorer(NgramTraining()).score(begun.model.folder, texts, (1.0,), lambda *_: None)
    nats, tokens = sum(score.nll[0] for score in scores), sum(score.tokens for score in scores)
    assert values["model", "perplexity"] == pytest.approx(exp(nats / tokens))
    assert values["model", "bits_per_byte"] == pytest.approx(nats / log(2) / sum(len(text.encode()) for text in texts))
    assert values["model", "perplexity_at_best_temperature"] <= values["model", "perplexity"]


def test_every_subject_is_measured_by_its_vocabulary(
    begin: Callable[[str], Beginning], said: Said, backends: Backends
) -> None:
    begun = begin("tiny")
    candidates, _ = said(begun.attempt(1), human_texts(30, seed=70))
    values = _values(_measured(begun, backends, candidates))
    subjects = {"human", "model", "candidates", "corpus"}
    for metric in ("rare_word_coverage", "type_coverage", "vocabulary_size", "repetition"):
        assert {subject for subject, name in values if name == metric} == subjects
    assert {subject for subject, name in values if name == "perplexity"} == {"model"}
    # The corpus of generation 0 is the reserve itself.
    assert values["corpus", "type_coverage"] == 1.0


def test_without_candidates_they_are_no_subject(begin: Callable[[str], Beginning], backends: Backends) -> None:
    assert {subject for subject, _ in _values(_measured(begin("tiny"), backends))} == {"human", "model", "corpus"}


def test_the_voice_begins_with_the_opening_and_then_speaks_from_nothing(
    begin: Callable[[str], Beginning], backends: Backends
) -> None:
    begun = begin("tiny")
    _measured(begun, backends)
    rows = read_table(begun.attempt(0).folder / "eval_samples").to_pylist()
    assert [row["prompt"] for row in rows] == ["The old"] + [""] * 15
    assert rows[0]["text"].startswith("The old")
    assert len({row["seed"] for row in rows}) == 16
    assert read_manifest(begun.attempt(0).folder / "eval_samples")["facts"]["eval_sample_tokens"] > 15


def test_the_same_seed_measures_the_same_and_another_hears_another_voice(
    begin: Callable[[str], Beginning], backends: Backends
) -> None:
    one, same, other = (begin(name) for name in ("one", "same", "other"))
    tables = [
        read_table(_measured(begun, backends, seed=seed).folder) for begun, seed in ((one, 0), (same, 0), (other, 1))
    ]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_a_set_that_the_attempt_does_not_know_is_refused(begin: Callable[[str], Beginning], backends: Backends) -> None:
    begun, settings = begin("tiny"), _SETTINGS.model_copy(update={"eval_sets": ("exam",)})
    parts = (begun.attempt(0), EvalInputs(begun.model, begun.corpus, begun.reserve, begun.heldout), settings)
    with pytest.raises(ValueError, match="names exam, and tiny · generation 0 began with these evaluation sets: none"):
        evaluate(*parts, NgramTraining(), _SAMPLING, 0, backends)
    withheld = {"human_heldout": begun.heldout, "exam": begun.reserve}
    made = evaluate(*parts, NgramTraining(), _SAMPLING, 0, backends, withheld)
    rows = [row for row in read_table(made.folder).to_pylist() if row["metric"] == "perplexity"]
    assert [row["source"] for row in rows] == ["all", "exam"]
    assert rows[0]["value"] > rows[1]["value"]  # it has learned the reserve by heart


def test_what_is_measured_is_not_measured_again(begin: Callable[[str], Beginning], backends: Backends) -> None:
    begun = begin("tiny")
    first = _measured(begun, backends)
    written = read_manifest(first.folder)["finished"]
    assert _measured(begun, backends) == first
    assert read_manifest(first.folder)["finished"] == written


def test_nothing_is_published_that_is_no_number_or_has_no_name(
    begin: Callable[[str], Beginning], said: Said, backends: Backends
) -> None:
    begun = begin("tiny")
    _measured(begun, backends)
    for place, texts in enumerate(([], ["!!"], ["--", "..."], ["one two three"]), 1):
        attempt = begun.attempt(place)
        candidates, _ = said(attempt, texts)
        made = EvalInputs(
            begun.model, begun.corpus, begun.reserve, begun.heldout, candidates, begun.corpus, begun.attempt(0)
        )
        rows = read_table(
            evaluate(attempt, made, _SETTINGS, NgramTraining(), _SAMPLING, 0, backends).folder
        ).to_pylist()
        assert {row["metric"] for row in rows} <= set(METRICS)
        assert all(row["value"] is not None and isfinite(row["value"]) for row in rows)
        assert {row["subject"] for row in rows} == {"human", "model", "candidates", "corpus"}


def test_a_generation_is_held_against_the_first(
    begin: Callable[[str], Beginning], said: Said, backends: Backends
) -> None:
    begun = begin("tiny")
    values = _values(_measured(begun, backends))
    assert values["model", "loss_change"] == values["model", "type_coverage_change"] == 0
    candidates, _ = said(begun.attempt(1), read_table(begun.corpus.folder)["text"].to_pylist()[:20])
    made = EvalInputs(
        begun.model, begun.corpus, begun.reserve, begun.heldout, candidates, begun.corpus, begun.attempt(0)
    )
    metrics = evaluate(begun.attempt(1), made, _SETTINGS, NgramTraining(), _SAMPLING, 0, backends)
    later = _values(metrics)
    assert later["candidates", "memorization_rate"] == 1.0
    assert later["model", "loss_change"] == 0.0  # the same model
    assert (
        later["candidates", "gen0_perplexity_q01"]
        <= later["candidates", "gen0_perplexity_q50"]
        <= later["candidates", "gen0_perplexity_q99"]
    )
    scores = read_table(begun.attempt(1).folder / "scores").to_pylist()
    assert {(row["subject"], row["model_generation"]) for row in scores} == {("human_heldout", 1), ("candidates", 0)}
    assert all(row["nll"] > 0 and row["tokens"] > 0 for row in scores)
