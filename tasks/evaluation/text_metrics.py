"""Compute metrics of the texts of each subject, compared with the human training set."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embeddings.encoders import load_encoder
from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.metrics.bootstrap import bootstrap
from curation.metrics.coverage import vocabulary_retained
from curation.metrics.embedding import embedding_dispersion, prdc
from curation.metrics.ngram_counts import TokenizedTexts, count_words, take_words
from curation.metrics.settings import EvalSettings, Measured
from curation.metrics.suite import coverage_changes, text_metrics
from storage.artifacts.artifact import Artifact, load_artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable
from tasks.evaluation.custom_metrics import run_custom_metrics
from tasks.evaluation.inputs import EvalInputs, MetricRow, metric_rows, sample_by_id, top_sources

_COPY_JACCARD = 0.8
"""Jaccard similarity of shingles at or above which a candidate is a copy of a training record."""


def texts_by_subject(eval_inputs: EvalInputs, samples: Artifact) -> dict[str, pa.Table]:
    """Return records by subject: `human_train`, the reference, and the subjects that are compared with it."""
    artifacts = {
        "human_train": eval_inputs.human.train,
        "human": eval_inputs.human.heldout,
        "candidates": eval_inputs.candidates,
        "corpus": eval_inputs.corpus,
    }
    texts = {"model": _unprompted_samples(samples)}
    for subject, artifact in artifacts.items():
        if artifact:
            texts[subject] = read_table(artifact.folder, ["id", "text", "source"])
    return texts


def measure_words(
    eval_inputs: EvalInputs, samples: Artifact, texts: dict[str, pa.Table], settings: EvalSettings, seed: int
) -> list[MetricRow]:
    """Measure coverage and diversity of words: of each subject, by source, and their change since generation 0."""
    rows = []
    for source in ["all", *top_sources(eval_inputs, settings)]:
        tables = {subject: _select_source(table, source) for subject, table in texts.items()}
        if source != "all":
            # Eval samples have no source.
            del tables["model"]
        human = shuffled_words(tables.pop("human_train"), settings.vocab_sample_words)
        # Coverage depends on the number of words, so every subject has as many as the human text.
        words = {subject: shuffled_words(table, count_words(human)) for subject, table in tables.items()}
        for subject, subject_words in words.items():
            rows += metric_rows(subject, text_metrics(human, subject_words), source)
        if source == "all":
            gen0_samples = samples
            if eval_inputs.gen0_attempt:
                gen0_samples = load_artifact(eval_inputs.gen0_attempt.folder / "eval_samples")
            gen0_words = shuffled_words(_unprompted_samples(gen0_samples), count_words(human))
            changes = coverage_changes(human, gen0_words, words["model"], derive_seed(seed, "bootstrap"))
            rows += metric_rows("model", changes)
    retained, num_words = vocabulary_retained(
        texts["human_train"]["text"].to_pylist(), texts["corpus"]["text"].to_pylist()
    )
    return [*rows, *metric_rows("corpus", [Measured("vocabulary_retained", retained, None, None, num_words)])]


def measure_embeddings(texts: dict[str, pa.Table], settings: EvalSettings, seed: int) -> list[MetricRow]:
    """Measure precision, recall and dispersion of the embeddings of each subject, on samples of one size."""
    encoder, bootstrap_seed = load_encoder(settings.encoder), derive_seed(seed, "bootstrap")
    vectors = {
        subject: encoder.encode(sample_by_id(table, settings.embedding_sample_records)["text"].to_pylist())
        for subject, table in texts.items()
    }
    human = vectors.pop("human_train")
    rows = []
    for subject, subject_vectors in vectors.items():
        rows += metric_rows(subject, prdc(human, subject_vectors, bootstrap_seed))
        rows += metric_rows(subject, embedding_dispersion(human, subject_vectors, bootstrap_seed))
    return rows


def measure_memorization(eval_inputs: EvalInputs, settings: EvalSettings) -> list[MetricRow]:
    """Measure the share of a sample of candidates that copies a record of their model's training corpus."""
    if not eval_inputs.candidates or not eval_inputs.previous_corpus:
        return []
    candidates = sample_by_id(
        read_table(eval_inputs.candidates.folder, ["id", "text"]), settings.embedding_sample_records
    )["text"].to_pylist()
    corpus = read_table(eval_inputs.previous_corpus.folder, ["text"])["text"].to_pylist()
    is_copy = find_overlaps(candidates, corpus, OverlapSettings(jaccard_threshold=_COPY_JACCARD)).is_near_duplicate
    rate = float(is_copy.mean()) if len(is_copy) else 0.0
    interval = bootstrap(is_copy.astype(np.float64), 0)
    return metric_rows("candidates", [Measured("memorization_rate", rate, *interval, len(candidates))])


def measure_custom_metrics(
    eval_inputs: EvalInputs, texts: dict[str, pa.Table], settings: EvalSettings
) -> list[MetricRow]:
    """Run the user's own metrics on the model and on the texts of each subject."""
    paths = settings.custom_metrics
    if not paths:
        return []
    rows = metric_rows("model", run_custom_metrics(paths, "model", ensure_loadable(eval_inputs.model), 0))
    for subject, table in texts.items():
        if subject != "human_train":
            metrics = run_custom_metrics(paths, "texts", table["text"].to_pylist(), table.num_rows)
            rows += metric_rows(subject, metrics)
    return rows


def shuffled_words(table: pa.Table, max_words: int) -> TokenizedTexts:
    """Return the first words of the texts in a random order, which depends on the number of texts alone."""
    texts = table["text"].to_pylist()
    order = np.random.default_rng(0).permutation(len(texts))
    return take_words((texts[row] for row in order), max_words)


def _select_source(table: pa.Table, source: str) -> pa.Table:
    return table if source == "all" else table.filter(pc.equal(table["source"], source))


def _unprompted_samples(samples: Artifact) -> pa.Table:
    """Return the eval samples without the first one, which completes the showcase prompt."""
    texts = read_table(samples.folder, ["text"])["text"].to_pylist()[1:]
    ids = [f"v{number}" for number in range(len(texts))]
    return pa.table({"id": ids, "text": pa.array(texts, pa.string()), "source": [""] * len(ids)})
