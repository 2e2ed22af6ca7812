"""Evaluation of a generation: inputs, samples, perplexity, metrics, forecast."""

import math
from collections.abc import Callable
from dataclasses import replace
from math import exp, isfinite, log
from pathlib import Path

import pyarrow as pa
import pytest

from curation.forecast.simulation import FORECAST_METRICS
from curation.metrics.settings import METRICS, EvalSettings, Measured
from curation.prompts.plan import PromptSettings
from flows.config.recipe import Recipe
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.backends import NgramTraining, Sampling
from tasks.backends.registry import Backends
from tasks.context import CuratedCandidates, GenerationHistory, StageContext
from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.forecast import loop_spec
from tasks.evaluation.inputs import EvalInputs, metric_rows, sample_by_id
from tasks.evaluation.perplexity import measure_perplexity
from tasks.evaluation.samples import sample_for_eval
from tasks.evaluation.sizes import EvalSizes, eval_sizes
from tasks.generation.generate import generate
from tests.conftest import human_texts
from tests.tasks.conftest import PublishCandidates, StartedRun

_SETTINGS = EvalSettings(num_samples=15, showcase_prompt="The old")
_SAMPLING = Sampling(sampler="ngram", max_tokens=20)
_NO_HISTORY = GenerationHistory()
_FIXED = EvalSizes(samples=12, candidates=500)
_PROPORTIONAL = EvalSettings(num_samples=15, showcase_prompt="The old", sizing="proportional")


def _context(started: StartedRun, generation: int = 0, seed: int = 0) -> StageContext:
    return started.context(generation, evaluate=_SETTINGS, generate=_SAMPLING, seed=seed)


def _inputs(
    started: StartedRun, history: GenerationHistory = _NO_HISTORY, curated: CuratedCandidates | None = None
) -> EvalInputs:
    return EvalInputs(human=started.human, history=history, corpus=started.corpus, model=started.model, curated=curated)


def _measured(started: StartedRun, curated: CuratedCandidates | None = None, seed: int = 0) -> Artifact:
    return evaluate(_context(started, seed=seed), _inputs(started, curated=curated))


def _values(metrics: Artifact) -> dict[tuple[str, str], float]:
    return {(row["subject"], row["metric"]): row["value"] for row in read_table(metrics.folder).to_pylist()}


def test_perplexity_is_measured_on_the_held_out_texts(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    values = _values(_measured(started))
    texts = read_table(started.human.heldout.folder)["text"].to_pylist()
    scores = backends.scorer(NgramTraining()).score(started.model.folder, texts, (1.0,), lambda *_: None)
    nats, tokens = sum(score.nll[0] for score in scores), sum(score.tokens for score in scores)
    assert values["model", "perplexity"] == pytest.approx(exp(nats / tokens))
    assert values["model", "bits_per_byte"] == pytest.approx(nats / log(2) / sum(len(text.encode()) for text in texts))
    assert values["model", "perplexity_at_best_temperature"] <= values["model", "perplexity"]


def test_every_subject_has_vocabulary_metrics(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    curated = publish_candidates(started.attempt(1), human_texts(30, seed=70))
    values = _values(_measured(started, curated))
    subjects = {"human", "model", "candidates", "corpus"}
    for metric in ("rare_word_coverage", "type_coverage", "vocabulary_size", "repetition"):
        assert {subject for subject, name in values if name == metric} == subjects
    assert {subject for subject, name in values if name == "perplexity"} == {"model"}
    # The corpus of generation 0 is the human training set itself.
    assert values["corpus", "type_coverage"] == 1.0


def test_generation_0_has_no_metrics_of_candidates(start_run: Callable[[str], StartedRun], backends: Backends) -> None:
    assert {subject for subject, _ in _values(_measured(start_run("tiny")))} == {"human", "model", "corpus"}


def test_eval_samples_are_the_showcase_completion_and_unprompted_samples(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    _measured(started)
    rows = read_table(started.attempt(0).folder / "eval_samples").to_pylist()
    assert [row["prompt"] for row in rows] == ["The old"] + [""] * 15
    assert rows[0]["text"].startswith("The old")
    assert len({row["seed"] for row in rows}) == 16
    assert read_manifest(started.attempt(0).folder / "eval_samples")["facts"]["eval_sample_tokens"] > 15


def test_the_same_seed_gives_the_same_metrics_and_another_seed_other_samples(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    one, same, other = (start_run(name) for name in ("one", "same", "other"))
    tables = [read_table(_measured(started, seed=seed).folder) for started, seed in ((one, 0), (same, 0), (other, 1))]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_an_eval_set_that_is_not_pinned_is_refused(start_run: Callable[[str], StartedRun], backends: Backends) -> None:
    started, settings = start_run("tiny"), _SETTINGS.model_copy(update={"eval_sets": ("exam",)})
    ctx, inputs = started.context(0, evaluate=settings, generate=_SAMPLING), _inputs(started)
    with pytest.raises(ValueError, match="names exam, but tiny · generation 0 began with these eval sets: none"):
        evaluate(ctx, inputs)
    human = replace(started.human, protected={**started.human.protected, "exam": started.human.train})
    made = evaluate(ctx, replace(inputs, human=human))
    rows = [row for row in read_table(made.folder).to_pylist() if row["metric"] == "perplexity"]
    assert [row["source"] for row in rows] == ["all", "exam"]
    assert rows[0]["value"] > rows[1]["value"]  # the model was trained on these records


def test_metrics_are_computed_once(start_run: Callable[[str], StartedRun], backends: Backends) -> None:
    started = start_run("tiny")
    first = _measured(started)
    finished = read_manifest(first.folder)["finished"]
    assert _measured(started) == first
    assert read_manifest(first.folder)["finished"] == finished


def test_every_metric_has_a_known_name_and_a_finite_value(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    _measured(started)
    for place, texts in enumerate(([], ["!!"], ["--", "..."], ["one two three"]), 1):
        attempt = started.attempt(place)
        inputs = _inputs(started, started.history(), publish_candidates(attempt, texts))
        rows = read_table(evaluate(_context(started, place), inputs).folder).to_pylist()
        assert {row["metric"] for row in rows} <= set(METRICS)
        assert all(row["value"] is not None and isfinite(row["value"]) for row in rows)
        assert {row["subject"] for row in rows} == {"human", "model", "candidates", "corpus"}


def test_a_generation_is_compared_with_generation_0(
    start_run: Callable[[str], StartedRun], publish_candidates: PublishCandidates, backends: Backends
) -> None:
    started = start_run("tiny")
    values = _values(_measured(started))
    assert values["model", "loss_change"] == values["model", "type_coverage_change"] == 0
    curated = publish_candidates(started.attempt(1), read_table(started.corpus.folder)["text"].to_pylist()[:20])
    metrics = evaluate(_context(started, 1), _inputs(started, started.history(), curated))
    later = _values(metrics)
    assert later["candidates", "memorization_rate"] == 1.0
    assert later["model", "loss_change"] == 0.0  # the same model
    assert (
        later["candidates", "gen0_perplexity_q01"]
        <= later["candidates", "gen0_perplexity_q50"]
        <= later["candidates", "gen0_perplexity_q99"]
    )
    scores = read_table(started.attempt(1).folder / "scores").to_pylist()
    assert {(row["subject"], row["model_generation"]) for row in scores} == {("human_heldout", 1), ("candidates", 0)}
    assert all(row["nll"] > 0 and row["tokens"] > 0 for row in scores)


def test_a_sample_depends_on_ids_alone() -> None:
    table = pa.table({"id": [f"r{number}" for number in range(100)], "text": ["x"] * 100})
    sample = sample_by_id(table, 20)["id"].to_pylist()
    assert len(set(sample)) == 20
    assert sample_by_id(table.take(list(reversed(range(100)))), 20)["id"].to_pylist() == sample[::-1]
    # Sampled records that are also in a smaller table are in its sample.
    half = set(sample_by_id(table.slice(0, 50), 20)["id"].to_pylist())
    assert {record_id for record_id in sample if int(record_id[1:]) < 50} <= half
    assert sample_by_id(table, 100).equals(table)


def test_values_that_are_not_finite_are_null() -> None:
    (row,) = metric_rows("model", [Measured("vocabulary_size", float("nan"), None, 1.0, 3)], "letters")
    assert (row["value"], row["low"], row["high"], row["source"]) == (None, None, 1.0, "letters")


_SAMPLE_SETTINGS = EvalSettings(num_samples=12, showcase_prompt="The old")
_SAMPLE_SAMPLING = Sampling(sampler="ngram", max_tokens=9)


def test_eval_samples_are_made_once_and_start_with_the_showcase_prompt(
    start_run: Callable[[str], StartedRun],
) -> None:
    started = start_run("tiny")
    ctx = started.context(0, evaluate=_SAMPLE_SETTINGS, generate=_SAMPLE_SAMPLING)
    samples = sample_for_eval(ctx, started.model, _FIXED)
    rows = read_table(samples.folder).to_pylist()
    assert [row["prompt"] for row in rows] == ["The old"] + [""] * 12
    assert rows[0]["text"].startswith("The old")
    finished = read_manifest(samples.folder)["finished"]
    assert sample_for_eval(ctx, started.model, _FIXED) == samples
    assert read_manifest(samples.folder)["finished"] == finished


def test_perplexity_is_computed_from_the_scores_of_the_held_out_texts(
    start_run: Callable[[str], StartedRun],
) -> None:
    started = start_run("tiny")
    inputs = EvalInputs(human=started.human, history=GenerationHistory(), corpus=started.corpus, model=started.model)
    result = measure_perplexity(started.context(0, evaluate=EvalSettings()), inputs, {}, _FIXED, lambda *_: None)
    assert result.scores["id"].to_pylist() == read_table(started.human.heldout.folder)["id"].to_pylist()
    values = {row["metric"]: row["value"] for row in result.metrics}
    scores = result.scores.to_pylist()
    mean = sum(row["nll"] for row in scores) / sum(row["tokens"] for row in scores)
    assert values["perplexity"] == pytest.approx(math.exp(mean))
    assert values["loss_change"] == 0
    assert result.dtype == "float64"


def test_every_generation_has_a_forecast_to_compare_with_its_metrics(finished_store: Path) -> None:
    catalog = open_catalog(finished_store)
    rows = catalog.sql(
        "select generation, value, low, high from forecast where metric = 'type_coverage' order by all"
    ).fetchall()
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    assert all(0 <= low <= value <= high <= 1 for _, value, low, high in rows)
    compared = catalog.sql(QUERIES["forecast_vs_measured"]).fetchall()
    assert {row[2] for row in compared} == set(FORECAST_METRICS)
    assert len(compared) == 4 * len(FORECAST_METRICS)


def test_a_loop_spec_has_the_settings_of_the_recipe(recipe: Recipe) -> None:
    assert loop_spec(recipe).mix == recipe.mix
    assert loop_spec(recipe).temperature == recipe.generate.temperature


def test_shared_eval_samples_are_the_first_candidates_of_the_next_generation_and_change_none_of_them(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    alone, shared = start_run("alone"), start_run("shared")
    generated = []
    for started, settings in ((alone, _SETTINGS), (shared, _PROPORTIONAL)):
        ctx = started.context(0, evaluate=settings, generate=_SAMPLING)
        evaluate(ctx, _inputs(started))
        following = started.context(1, evaluate=settings, generate=_SAMPLING)
        generated.append(generate(following, started.human, started.history(), started.model))
    tables = [read_table(candidates.folder).drop_columns(["id"]) for candidates in generated]
    assert tables[0].equals(tables[1])
    samples = read_table(shared.attempt(0).folder / "eval_samples").to_pylist()[1:]
    assert len(samples) == 15
    assert [row["text"] for row in samples] == tables[1]["text"].to_pylist()[:15]
    assert read_manifest(generated[1].folder)["facts"]["shared_with_eval_samples"] == 15
    assert "shared_with_eval_samples" not in read_manifest(generated[0].folder)["facts"]


def test_another_attempt_or_other_sampling_settings_share_no_samples(
    start_run: Callable[[str], StartedRun], backends: Backends
) -> None:
    started = start_run("tiny")
    evaluate(started.context(0, evaluate=_PROPORTIONAL, generate=_SAMPLING), _inputs(started))
    hotter = started.context(1, evaluate=_PROPORTIONAL, generate=_SAMPLING.model_copy(update={"temperature": 1.5}))
    facts = read_manifest(generate(hotter, started.human, started.history(), started.model).folder)["facts"]
    assert "shared_with_eval_samples" not in facts


def test_proportional_sizes_follow_the_candidates_and_metrics_say_from_how_many_texts_they_are(
    start_run: Callable[[str], StartedRun], backends: Backends, publish_candidates: PublishCandidates
) -> None:
    started = start_run("tiny")
    prompts = PromptSettings(template_name="prefix", prompts_per_human_record=0.5)
    settings = EvalSettings(sizing="proportional")
    ctx = started.context(0, evaluate=settings, generate=_SAMPLING, prompts=prompts)
    num_human = read_table(started.human.train.folder).num_rows
    sizes = eval_sizes(ctx.recipe, num_human)
    assert sizes == EvalSizes(samples=10, candidates=10, heldout=10)
    assert eval_sizes(ctx.recipe, 20_000) == EvalSizes(samples=400, candidates=300, heldout=600)
    evaluate(ctx, _inputs(started))
    curated = publish_candidates(started.attempt(1), human_texts(30, seed=70))
    later = started.context(1, evaluate=settings, generate=_SAMPLING, prompts=prompts)
    rows = read_table(evaluate(later, _inputs(started, started.history(), curated)).folder).to_pylist()
    by_metric = {row["metric"]: row["sample_size"] for row in rows if row["subject"] in ("model", "candidates")}
    assert (by_metric["perplexity"], by_metric["loss_change"], by_metric["gen0_perplexity_q50"]) == (10, 10, 10)


@pytest.mark.parametrize(
    ("chosen", "stored", "is_pretrained", "resolved"),
    [
        ("auto", None, False, "fixed"),
        ("auto", None, True, "proportional"),
        ("fixed", None, True, "fixed"),
        # A run that was begun before keeps its sizes.
        ("auto", {}, True, "fixed"),
        ("auto", {"sizing": "proportional"}, False, "proportional"),
    ],
)
def test_sizing_follows_the_model_and_is_kept_by_a_run(
    chosen: str, stored: dict[str, object] | None, is_pretrained: bool, resolved: str
) -> None:
    settings = EvalSettings.model_validate({"sizing": chosen}).resolve_auto(stored, is_pretrained=is_pretrained)
    assert settings.sizing == resolved
    assert ("sizing" in settings.model_dump()) == (resolved == "proportional")
