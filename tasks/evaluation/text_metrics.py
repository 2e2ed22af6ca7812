"""What is said, measured: words, vectors, copies, and the user's own evaluations, of each subject beside human text."""

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
from tasks.evaluation.inputs import EvalInputs, metric_rows, sample_by_id, top_sources

_COPIED = 0.8
"""Jaccard similarity of shingles at or above which a candidate is a copy."""


def texts_by_subject(eval_inputs: EvalInputs, samples: Artifact) -> dict[str, pa.Table]:
    """Records by subject: `human_train` to compare with, and what is compared. The opening is not what a model chose to say."""
    found = {"model": _spoken(samples)}
    there = {
        "human_train": eval_inputs.human.train,
        "human": eval_inputs.human.heldout,
        "candidates": eval_inputs.candidates,
        "corpus": eval_inputs.corpus,
    }
    return found | {
        name: read_table(artifact.folder, ["id", "text", "source"]) for name, artifact in there.items() if artifact
    }


def measure_words(
    eval_inputs: EvalInputs, samples: Artifact, texts: dict[str, pa.Table], settings: EvalSettings, seed: int
) -> list[dict[str, object]]:
    """Signs of collapse in the words of each subject, of everything and source by source, and what has changed since generation 0."""
    rows = []
    for source in ["all", *top_sources(eval_inputs, settings)]:
        mine = {name: _of_source(table, source) for name, table in texts.items() if source == "all" or name != "model"}
        human = shuffled_words(mine.pop("human_train"), settings.vocab_sample_words)
        said = {name: shuffled_words(table, count_words(human)) for name, table in mine.items()}
        for subject, worded in said.items():
            rows += metric_rows(subject, text_metrics(human, worded), source)
        if source == "all":
            now = said["model"]
            then = shuffled_words(
                _spoken(
                    load_artifact(eval_inputs.gen0_attempt.folder / "eval_samples")
                    if eval_inputs.gen0_attempt
                    else samples
                ),
                count_words(human),
            )
            rows += metric_rows("model", coverage_changes(human, then, now, derive_seed(seed, "bootstrap")))
    kept, known = vocabulary_retained(*(texts[name]["text"].to_pylist() for name in ("human_train", "corpus")))
    return [*rows, *metric_rows("corpus", [Measured("vocabulary_retained", kept, None, None, known)])]


def measure_embeddings(texts: dict[str, pa.Table], settings: EvalSettings, seed: int) -> list[dict[str, object]]:
    """How each subject lies among human records as vectors, on samples of one size."""
    encoder, dice = load_encoder(settings.encoder), derive_seed(seed, "bootstrap")
    vectors = {
        name: encoder.encode(sample_by_id(table, settings.embedding_sample_records)["text"].to_pylist())
        for name, table in texts.items()
    }
    human = vectors.pop("human_train")
    rows = []
    for subject, said in vectors.items():
        rows += metric_rows(subject, prdc(human, said, dice) + embedding_dispersion(human, said, dice))
    return rows


def measure_memorization(eval_inputs: EvalInputs, settings: EvalSettings) -> list[dict[str, object]]:
    """Share of a sample of candidates that repeats what their speaker learned from."""
    if not eval_inputs.candidates or not eval_inputs.previous_corpus:
        return []
    said = sample_by_id(read_table(eval_inputs.candidates.folder, ["id", "text"]), settings.embedding_sample_records)[
        "text"
    ].to_pylist()
    learned = read_table(eval_inputs.previous_corpus.folder, ["text"])["text"].to_pylist()
    copied = find_overlaps(said, learned, OverlapSettings(jaccard_threshold=_COPIED)).is_near_duplicate
    share = float(copied.mean()) if len(copied) else 0.0
    return metric_rows(
        "candidates", [Measured("memorization_rate", share, *bootstrap(copied.astype(np.float64), 0), len(said))]
    )


def measure_custom_metrics(
    eval_inputs: EvalInputs, texts: dict[str, pa.Table], settings: EvalSettings
) -> list[dict[str, object]]:
    """What the user's own evaluations say of the model and of each subject."""
    if not settings.custom_metrics:
        return []
    rows = metric_rows(
        "model", run_custom_metrics(settings.custom_metrics, "model", ensure_loadable(eval_inputs.model), 0)
    )
    for subject, table in texts.items():
        if subject != "human_train":
            rows += metric_rows(
                subject, run_custom_metrics(settings.custom_metrics, "texts", table["text"].to_pylist(), table.num_rows)
            )
    return rows


def _of_source(table: pa.Table, source: str) -> pa.Table:
    return table if source == "all" else table.filter(pc.equal(table["source"], source))


def shuffled_words(table: pa.Table, most: int) -> TokenizedTexts:
    """The first words of the texts in an order that is the same for the same number of texts."""
    texts = table["text"].to_pylist()
    return take_words((texts[place] for place in np.random.default_rng(0).permutation(len(texts))), most)


def _spoken(voice: Artifact) -> pa.Table:
    spoken = read_table(voice.folder, ["text"])["text"].to_pylist()[1:]
    ids = [f"v{place}" for place in range(len(spoken))]
    return pa.table({"id": ids, "text": pa.array(spoken, pa.string()), "source": [""] * len(ids)})
